"""What ``report_parts.html`` needs, in the report's page as in the index of its libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.render.report import compared, since
from evergreen_groups.render.report.page.charts import trend_charts

if TYPE_CHECKING:
    from evergreen_groups.report import Report


def shared_values(report: Report) -> dict[str, object]:
    """The report, what changed where there was a run before, and how the totals went over the last runs."""
    trend = report.changes.trend if report.changes else ()
    return {
        "report": report,
        "changes": compared(report),
        "since": since,
        "trend": trend,
        "trend_charts": trend_charts(trend),
    }
