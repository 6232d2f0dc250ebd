"""The machine used for measuring."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def machine() -> str:
    """Describe processor, cores and memory."""
    described = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^model name\s*: (.+)$", described, re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    memory = f"{int(total[1]) / 2**20:.0f} GB" if total else "memory unknown"
    return f"{len(os.sched_getaffinity(0))} cores, {memory}, {model[1] if model else platform.machine()}"


def load() -> str:
    """Return the load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def python() -> str:
    """Describe the running Python."""
    return f"{platform.python_implementation()} {platform.python_version()}"
