"""The page that a run which failed leaves beside the last report, so that nobody takes that one for tonight's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.formats import PAGE
from evergreen_groups.language import ENGLISH, describe_advice, describe_problem, use_language

if TYPE_CHECKING:
    from evergreen_groups.language import Language
    from evergreen_groups.nightly.options import Target
    from evergreen_groups.state import RunStatus

NAME = "failed.html"
"""What it is called in a directory of a report by library; beside ``report.html`` it is ``report.failed.html``."""

log = logging.getLogger("evergreen_groups.report_run")


def page_beside(target: Target) -> Path | None:
    """Where it is left; nowhere for what isn't read as a page."""
    if target.path is None:
        return None
    if target.split:
        return target.path / NAME
    return target.path.with_suffix(f".{NAME}") if target.formats == (PAGE,) else None


def leave_page(target: Target, status: RunStatus, error: BaseException | None, language: Language = ENGLISH) -> None:
    """Say there, in this language, that the run failed, and why.

    What goes wrong with that is only logged: the run has failed anyway.
    """
    page = page_beside(target)
    if page is None or target.path is None:
        return
    from evergreen_groups.nightly.file_names import INDEX  # all of it for pages, which most runs needn't load
    from evergreen_groups.render import failed_run_page
    from evergreen_groups.state import LATEST, write_bytes_atomically

    known = error if isinstance(error, EvergreenGroupsError) else None  # what others say may be about a patron
    last = f"{LATEST}/{INDEX}" if target.split else target.path.name
    with use_language(language):
        text = failed_run_page(
            status,
            last=last if (page.parent / last).exists() else "",
            reason=describe_problem(known) if known else "",
            advice=describe_advice(known) if known else "",
        )
    try:
        page.parent.mkdir(mode=0o700, exist_ok=True)
        with write_bytes_atomically(page) as stream:
            stream.write(text.encode())
    except (EvergreenGroupsError, OSError) as problem:
        log.info("the page that says so could not be left at %s: %s", page, type(problem).__name__)


def remove_page(target: Target) -> None:
    """Take it away again: what is there is tonight's."""
    page = page_beside(target)
    if page is not None:
        try:
            page.unlink(missing_ok=True)
        except OSError as problem:
            log.warning("%s could not be removed: %s", page, problem.strerror)
