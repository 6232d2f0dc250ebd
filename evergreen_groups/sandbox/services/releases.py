"""What differs between Evergreen's releases and between sites, as one table.

The sandbox answers as the release of the exchanges it is compared with, unless it is told to behave otherwise. Each
difference has an id of the exchange that shows it, or says where it was read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise in older releases, or at some sites.

    ``until`` is the first release without it, empty where it depends on the ``site`` and not on the release.
    ``evidence`` is the id of the exchange that shows it. ``absent`` are the beginnings of names of methods that aren't
    there.
    """

    name: str
    evidence: str
    until: str = ""
    absent: tuple[str, ...] = ()

    @property
    def site(self) -> bool:
        """Whether it is the site's affair: its bus, its copies of the database."""
        return not self.until

    def holds_for(self, release: str) -> bool:
        """Whether a release (``"3.12"``, ``"3.15.2"``) behaves so; never for what is the site's affair."""
        return not self.site and _numbers(release) < _numbers(self.until)


HIDDEN_ROWS_COUNT = Difference("hidden-rows-count", "3.12/releases-045", until="3.16.0")
"""Rows that the account may not see count against ``limit`` and ``offset``, and are then left out."""

KEY_MUST_BE_SELECTED = Difference("key-must-be-selected", "3.12/releases-019", until="3.16.0")
"""A ``select`` without the primary key ends in status 500 as soon as a row is found: each is fetched again by it."""

NO_COUNT = Difference("no-count", "3.12/releases-059", until="3.16.0", absent=("open-ils.pcrud.count.",))
"""pcrud has no ``count``."""

NO_OVERDUE_COUNT = Difference(
    "no-overdue-count", "groups-036", until="3.17.0", absent=("open-ils.actor.usergroup.members.overdue_count",)
)
"""A group's overdue items aren't counted."""

XMPP = Difference("xmpp", "3.12/releases-060")
"""The bus is XMPP: a service that isn't there is a transport error, not a service that wasn't found."""

REPLICA = Difference("replica", "releases-056")
"""Plain reads go to a copy of the database that is behind; ``.authoritative`` forms and writes see the original."""

TABLE = (HIDDEN_ROWS_COUNT, KEY_MUST_BE_SELECTED, NO_COUNT, NO_OVERDUE_COUNT, XMPP, REPLICA)


def differences(release: str | None, names: Iterable[str]) -> frozenset[Difference]:
    """Those that a release has (None: the latest), and those named besides.

    Raises:
        ConfigurationError: there is no difference of that name, or the release isn't one.
    """
    known = {difference.name: difference for difference in TABLE}
    wanted = list(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigurationError(
            "no such difference: {unknown}",
            advice="there are these differences: {known}",
            code="difference-unknown",
            values={"unknown": ", ".join(unknown), "known": ", ".join(known)},
        )
    of_release = () if release is None else (item for item in TABLE if item.holds_for(release))
    return frozenset((*of_release, *(known[name] for name in wanted)))


def _numbers(release: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", release, re.ASCII):
        raise ConfigurationError(
            "{release} is no release of Evergreen",
            advice="they look like 3.12 or 3.16.2",
            code="release-unknown",
            values={"release": release},
        )
    numbers = tuple(map(int, release.split(".")))
    return numbers if len(numbers) > 2 else (*numbers, 0)
