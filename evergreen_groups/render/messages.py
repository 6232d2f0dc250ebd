"""Pages that say one thing about the report and name no patron: why it isn't shown, and that it wasn't made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.exit_status import MEANINGS
from evergreen_groups.language import gettext
from evergreen_groups.render.templates import template_text

if TYPE_CHECKING:
    from evergreen_groups.state import RunStatus


def refusal_page(title: str, text: str, *, advice: str, again: str, login: str = "") -> str:
    """Say why the report isn't shown; ``again`` is its address, ``login`` that of the login where that would help."""
    return template_text("report_problem.html", title=title, text=text, advice=advice, again=again, login=login)


def failed_run_page(status: RunStatus, *, last: str, reason: str = "", advice: str = "") -> str:
    """Say that a run ended without a report, and why; ``last`` is the address of the last one, where there is one."""
    meaning = gettext(MEANINGS.get(status.exit_code, ""))
    return template_text(
        "run_failed.html",
        title=gettext("The report was not made"),
        status=status,
        meaning=meaning,
        reason=reason,
        advice=advice,
        last=last,
    )
