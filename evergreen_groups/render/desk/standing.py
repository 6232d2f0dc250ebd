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
    """A short remark about a member, with an optional explanation."""

    weight: Weight
    text: str
    detail: str = ""


def remarks_about(
    member: Member,
    account: PatronAccount,
    standing: Standing,
    staff: Mapping[int, str],
    forecast: RecalculationForecast | None = None,
) -> Iterator[Remark]:
    """Yield the remarks about a member, the most important first; ``staff`` has the names of staff accounts by id.

    ``forecast`` says what a recalculation could change, where the rule and Evergreen disagree.
    """
    explanation = None if forecast is None else forecast.explain(member)
    why = "" if explanation is None else gettext(explanation)
    for penalty in standing.blocks_for_fines:
        detail = _where_from(penalty, staff, named=True)
        if standing.over_limit is False:
            # Evergreen's threshold is reached, so its block is correct. "Within the limit" would confuse here.
            reached = forecast is not None and forecast.obstacle is Obstacle.REACHES_THRESHOLD
            detail = _joined(detail, "" if reached else gettext("Own fines are within the limit."), why)
        yield Remark(Weight.BLOCK, gettext("Blocked in Evergreen"), detail)
    if standing.over_limit:
        detail = _joined(describe_own_limit(member.limit), why)
        yield Remark(Weight.WARNING, _over_limit(standing, stays=bool(why)), detail)
    for penalty in standing.other_blocks:
        text = gettext("Blocked: {penalty}", penalty=printable(penalty.kind.name))
        yield Remark(Weight.BLOCK, text, _where_from(penalty, staff, named=False))
    if member.patron.deleted:
        yield Remark(Weight.BLOCK, pgettext("remark about a member", "Deleted"))
    yield from _account(member, account)
    if standing.over_limit is None:
        detail = gettext("Your login may not see the limit that counts here.")
        yield Remark(Weight.NOTE, gettext("Limit not visible"), detail)


def _over_limit(standing: Standing, *, stays: bool) -> str:
    if standing.blocked_for_fines:
        return gettext("Over the limit")
    if stays:
        return gettext("Over the limit, not blocked in Evergreen")
    return gettext("Over the limit, not yet blocked in Evergreen")


def _account(member: Member, account: PatronAccount) -> Iterator[Remark]:
    if account.barred:
        yield Remark(Weight.BLOCK, pgettext("remark about a member", "Barred"))
    if not account.active and not member.patron.deleted:
        yield Remark(Weight.BLOCK, pgettext("remark about a member", "Not active"))
    if account.expired:
        yield Remark(Weight.WARNING, pgettext("remark about a member", "Expired"))


# Keyed by: the penalty is named, the date is known. Who set the penalty follows in a separate sentence.
_WHERE_FROM = {
    (True, True): Message("{penalty} at {library} since {day}."),
    (True, False): Message("{penalty} at {library}."),
    (False, True): Message("At {library} since {day}."),
    (False, False): Message("At {library}."),
}


def _where_from(penalty: Penalty, staff: Mapping[int, str], *, named: bool) -> str:
    since = penalty.set_date
    where = gettext(
        _WHERE_FROM[named, since is not None],
        penalty=printable(penalty.kind.name),
        library=printable(penalty.org_unit.shortname),
        day=day(since.date()) if since else "",  # in the ILS's own time zone
    )
    return _joined(where, _set_by(penalty, staff))


def _set_by(penalty: Penalty, staff: Mapping[int, str]) -> str:
    if not penalty.by_staff:
        return gettext("Set by Evergreen.")
    name = staff.get(penalty.staff or 0)
    if not name:
        return gettext("Set by staff.")
    return gettext("Set by you.") if name is YOU else gettext("Set by {staff}.", staff=isolated(name))


def describe_own_limit(limit: Limit) -> str:
    """Describe the limit that applies to a member."""
    if limit.amount is None:
        return gettext("No limit.")
    if limit.comparison is Comparison.REACHES:
        return gettext("Own fines of {limit} or more are over the limit.", limit=limit.amount)
    return gettext("The limit is {limit}.", limit=limit.amount)


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
