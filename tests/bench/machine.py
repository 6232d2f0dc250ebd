"""On what it is measured."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine() -> str:
    """Processor, cores and memory in a few words."""
    described = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^model name\s*: (.+)$", described, re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    memory = f"{int(total[1]) / 2**20:.0f} GB" if total else "memory unknown"
    return f"{len(os.sched_getaffinity(0))} cores, {memory}, {model[1] if model else platform.machine()}"


def load() -> str:
    """How many processes wanted a core during the last minute, on average."""
    return f"{os.getloadavg()[0]:.1f}"


def python() -> str:
    """The Python that runs it."""
    return f"{platform.python_implementation()} {platform.python_version()}"
