"""The two truths about a member in words: over the limit by the rule, and blocked in Evergreen by a penalty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evergreen_groups.groups import StandingDifference
from evergreen_groups.language import current_language, day, gettext
from evergreen_groups.message import Message
from evergreen_groups.money import plain_amount_or_none
from evergreen_groups.render.safe_text import printable

if TYPE_CHECKING:
    from datetime import date

    from evergreen_groups.desk import RecalculationProspect
    from evergreen_groups.groups import Standing
    from evergreen_groups.ils import Penalty

DIFFERENCES: Mapping[StandingDifference, Message] = {
    StandingDifference.NOT_YET_BLOCKED: Message("over the limit, not yet blocked in Evergreen"),
    StandingDifference.NOW_WITHIN_LIMIT: Message("blocked in Evergreen, own fines within the limit"),
}
"""What is said where the two differ."""
# By whether staff have set it, and whether it is known when.
_PENALTIES = {
    (False, False): Message("{penalty} at {library}"),
    (False, True): Message("{penalty} at {library}, since {day}"),
    (True, False): Message("{penalty} at {library}, by staff"),
    (True, True): Message("{penalty} at {library}, by staff, since {day}"),
}


def describe_penalty(penalty: Penalty) -> str:
    """Describe a penalty: ``STAFF_CHR at BR1, by staff, since 2 Nov 2026``."""
    since = penalty.set_date.date() if penalty.set_date else None  # in the ILS's own time zone
    return _described(current_language().tag, penalty.kind.name, penalty.org_unit.shortname, penalty.by_staff, since)


# A report has them by the ten thousand, and most are of a few kinds, libraries and days.
@lru_cache(maxsize=4096)
def _described(_tag: str, kind: str, library: str, by_staff: bool, since: date | None) -> str:
    return gettext(
        _PENALTIES[by_staff, since is not None],
        penalty=printable(kind),
        library=printable(library),
        day=day(since) if since else "",
    )


def penalty_cell(penalty: Penalty) -> str:
    """A penalty as programs read it in a column, in English: ``STAFF_CHR at BR1, by staff, since 2026-11-02``."""
    by_staff = ", by staff" if penalty.by_staff else ""
    since = f", since {penalty.set_date:%Y-%m-%d}" if penalty.set_date else ""
    return printable(f"{penalty.kind.name} at {penalty.org_unit.shortname}{by_staff}{since}")


def describe_standing(standing: Standing) -> str:
    """Say in a few words what a member's standing is, nothing where there is nothing to say.

    That is *over the limit*, *blocked in Evergreen*, both, or how the two differ.
    """
    if standing.difference is not None:
        return gettext(DIFFERENCES[standing.difference])
    if not standing.blocked_for_fines:
        return ""
    return gettext("over the limit, blocked in Evergreen") if standing.over_limit else gettext("blocked in Evergreen")


def explain_standing(standing: Standing, *, not_yet: bool = True) -> Iterator[str]:
    """Say where the two truths differ and what else blocks a member, a sentence without its dot for each.

    ``not_yet`` says of a member who isn't blocked that Evergreen blocks them once it recalculates.
    """
    blocks = "; ".join(map(describe_penalty, standing.blocks_for_fines))
    if standing.difference is StandingDifference.NOT_YET_BLOCKED:
        not_blocked = Message("over the limit, not blocked in Evergreen")
        yield gettext(DIFFERENCES[standing.difference] if not_yet else not_blocked)
    elif standing.difference is not None:
        yield gettext("blocked in Evergreen, own fines within the limit: {penalties}", penalties=blocks)
    elif standing.over_limit is None and blocks:
        yield gettext("blocked in Evergreen: {penalties}", penalties=blocks)
    for penalty in standing.other_blocks:
        yield gettext("blocked in Evergreen for something else: {penalty}", penalty=describe_penalty(penalty))


def penalty_document(penalty: Penalty) -> dict[str, Any]:
    """A penalty as a JSON object."""
    return {
        "name": penalty.kind.name,
        "org_unit": penalty.org_unit.shortname,
        "since": penalty.set_date.isoformat(timespec="seconds") if penalty.set_date else None,
        "by_staff": penalty.by_staff,
    }


def standing_document(standing: Standing) -> dict[str, Any]:
    """A member's standing as the keys of a JSON object; ``over_limit`` is null where the limit isn't visible."""
    return {
        "over_limit": standing.over_limit,
        "blocked_in_evergreen": [penalty_document(penalty) for penalty in standing.blocks_for_fines],
        "other_blocks": [penalty_document(penalty) for penalty in standing.other_blocks],
        "difference": None if standing.difference is None else standing.difference.value,
    }


def prospect_document(prospect: RecalculationProspect | None) -> dict[str, Any]:
    """What a recalculation could change for a member as the keys of a JSON object; null where nothing differs."""
    limit = None if prospect is None else prospect.limit
    return {
        "recalculation": None if prospect is None else prospect.code,
        "evergreen_threshold": None if limit is None else plain_amount_or_none(limit.amount),
    }
