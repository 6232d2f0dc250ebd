"""A member's standing: over the limit by the rule, blocked in Evergreen by a penalty, and other remarks.

The rule and the penalties are shown separately. The rule considers own fines only; a penalty is on the record or not.
Where the two disagree, a remark says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.desk import Obstacle
from evergreen_groups.language import day, gettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison
from evergreen_groups.render import isolated, printable

if TYPE_CHECKING:
    from evergreen_groups.desk import RecalculationForecast
    from evergreen_groups.groups import Member, PatronAccount, Standing
    from evergreen_groups.ils import Penalty
    from evergreen_groups.policy import Limit

YOU = "you"
"""Marks the current user among the names of staff. Compared by identity, because a name could be the same word."""


class Weight(Enum):
    """How a remark is shown. Only a block is red."""

    BLOCK = "block"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Remark:
    """A short remark about a member, with an optional explanation, and the ``code`` of the penalty that it names."""

    weight: Weight
    text: str
    detail: str = ""
    code: str = ""


def remarks_about(
    member: Member,
    account: PatronAccount,
    standing: Standing,
    staff: Mapping[int, str],
    forecast: RecalculationForecast | None = None,
    *,
    with_limit: bool = False,
) -> Iterator[Remark]:
    """Yield the remarks about a member, the most important first; ``staff`` has the names of staff accounts by id.

    ``forecast`` says what a recalculation could change, where the rule and Evergreen disagree. ``with_limit`` names the
    member's limit, which members may not have in common.
    """
    explanation = None if forecast is None else forecast.explain(member)
    why = "" if explanation is None else gettext(explanation)
    limit = describe_own_limit(member.limit) if with_limit and standing.over_limit else ""
    if member.patron.deleted:
        yield Remark(Weight.BLOCK, pgettext("remark about a member", "Deleted"))
    if account.barred:
        yield Remark(Weight.BLOCK, pgettext("remark about a member", "Barred"))
    if not account.active and not member.patron.deleted:
        yield Remark(Weight.BLOCK, pgettext("remark about a member", "Inactive"))
    yield from _blocks_for_fines(standing, staff, forecast, why)
    for penalty in standing.other_blocks:
        for_items = penalty.kind.is_for_items
        yield _block(penalty, staff, gettext("Blocked for own items") if for_items else pgettext("a patron", "Blocked"))
    if standing.over_limit and standing.blocked_for_fines:
        yield Remark(Weight.WARNING, gettext("Over the limit"), _joined(limit, why))
    elif standing.over_limit:
        yield Remark(Weight.WARNING, gettext("Over the limit, not blocked"), _joined(limit, why))
    if account.expired:
        yield Remark(Weight.WARNING, pgettext("remark about a member", "Expired"))
    if standing.over_limit is None:
        yield Remark(Weight.NOTE, gettext("Limit not visible"))


def _blocks_for_fines(
    standing: Standing, staff: Mapping[int, str], forecast: RecalculationForecast | None, why: str
) -> Iterator[Remark]:
    obstacle = None if forecast is None else forecast.obstacle
    text = pgettext("a patron", "Blocked")
    if obstacle is Obstacle.THRESHOLD_HIDDEN:
        text, why = gettext("Blocked; Evergreen's threshold is hidden from your login"), ""
    # Where Evergreen's threshold is reached, its block is correct, and "within the limit" would confuse.
    elif standing.over_limit is False and obstacle is not Obstacle.REACHES_THRESHOLD:
        text = gettext("Blocked, but within the limit")
    for penalty in standing.blocks_for_fines:
        yield _block(penalty, staff, text, "" if standing.over_limit else why)


def _block(penalty: Penalty, staff: Mapping[int, str], text: str, why: str = "") -> Remark:
    since = penalty.set_date
    where = gettext(
        Message("{penalty} (at {library}, since {day}).") if since else Message("{penalty} (at {library})."),
        penalty=printable(penalty.kind.label or penalty.kind.name),
        library=printable(penalty.org_unit.shortname),
        day=day(since.date()) if since else "",  # in Evergreen's own time zone
    )
    return Remark(Weight.BLOCK, text, _joined(where, _set_by(penalty, staff), why), printable(penalty.kind.name))


def _set_by(penalty: Penalty, staff: Mapping[int, str]) -> str:
    if not penalty.by_staff:
        return gettext("Set by Evergreen.")
    name = staff.get(penalty.staff or 0)
    if not name:
        return gettext("Set by staff.")
    return gettext("Set by you.") if name is YOU else gettext("Set by {staff}.", staff=isolated(name))


def describe_own_limit(limit: Limit) -> str:
    if limit.amount is None:
        return gettext("No limit.")
    if limit.comparison is Comparison.REACHES:
        return gettext("Own fines of {limit} or more are over the limit.", limit=limit.amount)
    return gettext("The limit is {limit}.", limit=limit.amount)


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
