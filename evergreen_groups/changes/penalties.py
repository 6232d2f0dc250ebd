"""The penalties in force for one patron, as they are where they are changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.groups import patron_in, read_patron
from evergreen_groups.ils import OrgUnits, PenaltyRow, is_in_force, rows_in_force

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.fleshed.retrieve.authoritative"
_SESSION = "open-ils.auth.session.retrieve"


@dataclass(frozen=True, slots=True)
class PatronPenalties:
    """What is in force for a patron, and the org unit they have as home library.

    ``current`` says that what is in force there, and above and below it, comes from where it is written.
    """

    home_library: int
    in_force: tuple[PenaltyRow, ...]
    current: bool = True

    @property
    def digest(self) -> str:
        """The same for two states in which the same rows are in force."""
        return sha256(repr([row.id for row in self.in_force]).encode()).hexdigest()


class PenaltyReader:
    """Reads patrons' penalties one by one.

    Those at the org units above and below the account's workplace come from the database that is written to; the
    ILS's method for that leaves out the others (``patrons-037``). They come from pcrud, which a site with copies of
    its database may answer from one that is some seconds behind.
    """

    def __init__(self, gateway: Gateway, org_units: OrgUnits | None = None) -> None:
        """``org_units`` are those of the ILS, where a program has read them."""
        self._gateway = gateway
        self._known_org_units = org_units

    @cached_property
    def org_units(self) -> OrgUnits:
        """The org units."""
        return self._known_org_units or OrgUnits.read(self._gateway)

    @cached_property
    def _near(self) -> frozenset[int]:
        """The org units whose penalties the account is told at once."""
        session = self._gateway.decode(self._gateway.call("open-ils.auth", _SESSION, TOKEN).value)
        try:
            return frozenset(self.org_units.full_path(int(session.ws_ou)))
        except (AttributeError, TypeError, ValueError):
            raise DataError("the ILS doesn't say where the account works", code="no-workplace") from None

    def read(self, patron: int) -> PatronPenalties | None:
        """What is in force for a patron; None for one whom the account can't see.

        Raises:
            DataError: the answer isn't the patron's.
        """
        record = read_patron(self._gateway, patron)
        return None if record is None else self._of(patron, int(record.home_ou))

    def read_again(self, patron: int, former: PatronPenalties) -> PatronPenalties:
        """What is in force now for a patron who was read before, whom the account can see."""
        return self._of(patron, former.home_library)

    def _of(self, patron: int, home_library: int) -> PatronPenalties:
        near = self._read_near(patron)
        everything_is_near = near is not None and all(unit.id in self._near for unit in self.org_units)
        rows = () if everything_is_near else tuple(rows_in_force(self._gateway, [patron]))
        if near is not None:
            rows = (*near, *(row for row in rows if row.org_unit not in self._near))
        home_is_near = near is not None and self._near.issuperset(self.org_units.full_path(home_library))
        return PatronPenalties(
            home_library, tuple(sorted(rows)), current=home_is_near or not self._gateway.reads_replicas
        )

    def _read_near(self, patron: int) -> list[PenaltyRow] | None:
        """Those at the org units around the workplace; None where the account may not ask for them."""
        try:
            answer = self._gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron, ["standing_penalties"]).value
        except PermissionDeniedError:  # it sees the patron, but has VIEW_USER elsewhere than where it works
            return None
        rows = patron_in(self._gateway, answer, patron).standing_penalties
        if not isinstance(rows, list):
            raise DataError("the ILS gave no list of a patron's penalties", code="penalties-not-a-list")
        return list(_rows(rows, patron))


def _rows(records: list[Any], patron: int) -> Iterator[PenaltyRow]:
    now = datetime.now(UTC)
    for row in records:
        if row.usr != patron:
            raise DataError("the ILS gave the penalties of another patron", code="penalties-of-another")
        if is_in_force(row.stop_date, now):
            kind = row.standing_penalty
            yield PenaltyRow(
                row.id, patron, kind if isinstance(kind, int) else kind.id, row.org_unit, row.staff, row.set_date
            )
