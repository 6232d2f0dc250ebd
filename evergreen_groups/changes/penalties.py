"""Read a patron's penalties in force, from the primary database where possible."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import PermissionDeniedError, unreadable
from evergreen_groups.gateway import TOKEN
from evergreen_groups.groups import families, read_patron
from evergreen_groups.ils import OrgUnits, PenaltyKinds, PenaltyRow, permissions, rows_in_force

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.fleshed.retrieve.authoritative"


@dataclass(frozen=True, slots=True)
class PatronPenalties:
    """A patron's penalties in force and home library (org unit id)."""

    home_library: int
    in_force: tuple[PenaltyRow, ...]
    current: bool = True  # whether those at the home library and the org units above come from the primary database

    @property
    def digest(self) -> str:
        """A digest that is equal for two states with the same rows in force."""
        return sha256(repr([row.id for row in self.in_force]).encode()).hexdigest()


@dataclass
class PenaltyReader:
    """Reads the penalties of one patron at a time.

    Penalties at the org units above and below the account's workplace come from the primary database. Evergreen's
    method for that omits all other org units (``patrons-037``). The rest comes from pcrud, which may answer from a
    replica that is some seconds behind.
    """

    gateway: Gateway
    known_org_units: OrgUnits | None = None  # if the caller has already read them

    @cached_property
    def org_units(self) -> OrgUnits:
        return self.known_org_units or OrgUnits.read(self.gateway)

    @cached_property
    def kinds(self) -> PenaltyKinds:
        return PenaltyKinds.read(self.gateway, self.org_units)

    @cached_property
    def _near(self) -> set[int]:
        """The ids of the org units whose penalties the account can read from the primary."""
        return self.org_units.full_path(permissions.library_of(permissions.account_of_session(self.gateway)))

    def read(self, patron: int) -> PatronPenalties | None:
        """Return a patron's penalties in force, or None for a hidden patron."""
        record = read_patron(self.gateway, patron)
        return None if record is None else self.read_at(patron, int(record.home_ou))

    def read_at(self, patron: int, home_library: int) -> PatronPenalties:
        """Return the penalties of a visible patron whose home library (org unit id) is known."""
        is_current = not self.gateway.reads_replicas
        rows = self._read_near(patron)
        if rows is None:
            rows = list(rows_in_force(self.gateway, [patron]))
        else:
            is_current = is_current or self._near >= self.org_units.full_path(home_library)
            if not self._near >= self.org_units.ids:
                rows += (row for row in rows_in_force(self.gateway, [patron]) if row.org_unit not in self._near)
        return PatronPenalties(home_library, tuple(sorted(rows)), is_current)

    def _read_near(self, patron: int) -> list[PenaltyRow] | None:
        """Read penalties at org units around the workplace. Return None if the account isn't permitted to."""
        try:
            answer = self.gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron, ["standing_penalties"]).value
        except PermissionDeniedError:  # the account has VIEW_USER for the patron, but not at its workplace
            return None
        rows = families.patron_in(self.gateway, answer, patron).standing_penalties
        if not isinstance(rows, list):
            raise unreadable("penalties-not-a-list", "a patron's penalties aren't a list")
        if any(row.usr != patron for row in rows):
            raise unreadable("penalties-of-another", "penalties of another patron")
        now, found = datetime.now(UTC), []
        for row in rows:
            if PenaltyRow.is_in_force(row.stop_date, now):
                kind = row.standing_penalty if isinstance(row.standing_penalty, int) else row.standing_penalty.id
                found.append(PenaltyRow(row.id, patron, kind, row.org_unit, row.staff, row.set_date))
        return found
