"""What one run of the report is to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.report import Criteria


@dataclass(frozen=True, slots=True)
class Target:
    """Where the report goes: to standard output (``path`` None), to a file, or with ``split`` to a directory.

    ``formats`` are those of a directory's files; of the other two there is one. ``keep_days`` is how long a
    directory's older files stay (None: for ever). ``dialect`` is that of CSV.
    """

    path: Path | None
    formats: tuple[str, ...]
    split: bool = False
    keep_days: int | None = None
    details: bool = True
    bom: bool = False
    dialect: str = "plain"


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """One run of the report. ``deadline`` is in seconds."""

    criteria: Criteria
    target: Target
    mail: bool
    deadline: int
    healthcheck_url: str | None
