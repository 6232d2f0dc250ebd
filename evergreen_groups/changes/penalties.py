"""Read a patron's penalties in force, from the primary database where possible."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.groups import families, read_patron
from evergreen_groups.ils import OrgUnits, PenaltyRow, rows_in_force

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.fleshed.retrieve.authoritative"
_SESSION = "open-ils.auth.session.retrieve"


@dataclass(frozen=True, slots=True)
class PatronPenalties:
    """A patron's penalties in force and home library (org unit id).

    ``current`` says that the penalties at the home library and the org units above it come from the primary database.
    """

    home_library: int
    in_force: tuple[PenaltyRow, ...]
    current: bool = True

    @property
    def digest(self) -> str:
        """A digest that is equal for two states with the same rows in force."""
        return sha256(repr([row.id for row in self.in_force]).encode()).hexdigest()


class PenaltyReader:
    """Reads the penalties of one patron at a time.

    Penalties at the org units above and below the account's workplace come from the primary database. Evergreen's
    method for that omits all other org units (``patrons-037``). The rest comes from pcrud, which may answer from a
    replica that is some seconds behind.
    """

    def __init__(self, gateway: Gateway, org_units: OrgUnits | None = None) -> None:
        """``org_units`` are Evergreen's, if the caller has already read them."""
        self._gateway = gateway
        self._known_org_units = org_units

    @cached_property
    def org_units(self) -> OrgUnits:
        """All org units of Evergreen."""
        return self._known_org_units or OrgUnits.read(self._gateway)

    @cached_property
    def _near(self) -> frozenset[int]:
        """The ids of the org units whose penalties the account can read from the primary."""
        session = self._gateway.decode(self._gateway.call("open-ils.auth", _SESSION, TOKEN).value)
        try:
            return frozenset(self.org_units.full_path(int(session.ws_ou)))
        except (AttributeError, TypeError, ValueError):
            raise DataError(
                "Evergreen's answer can't be read: {detail}",
                code="no-workplace",
                values={"detail": "the session has no workplace"},
            ) from None

    def read(self, patron: int) -> PatronPenalties | None:
        """Return a patron's penalties in force, or None for a hidden patron."""
        record = read_patron(self._gateway, patron)
        return None if record is None else self.read_at(patron, int(record.home_ou))

    def read_at(self, patron: int, home_library: int) -> PatronPenalties:
        """Return the penalties of a visible patron whose home library (org unit id) is known."""
        near = self._read_near(patron)
        # Ask pcrud only if there are org units that the first call can't cover.
        everything_is_near = near is not None and all(unit.id in self._near for unit in self.org_units)
        rows = () if everything_is_near else tuple(rows_in_force(self._gateway, [patron]))
        if near is not None:
            rows = (*near, *(row for row in rows if row.org_unit not in self._near))
        home_is_near = near is not None and self._near.issuperset(self.org_units.full_path(home_library))
        return PatronPenalties(
            home_library, tuple(sorted(rows)), current=home_is_near or not self._gateway.reads_replicas
        )

    def _read_near(self, patron: int) -> list[PenaltyRow] | None:
        """Read penalties at org units around the workplace. Return None if the account isn't permitted to."""
        try:
            answer = self._gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron, ["standing_penalties"]).value
        except PermissionDeniedError:  # the account has VIEW_USER for the patron, but not at its workplace
            return None
        rows = families.patron_in(self._gateway, answer, patron).standing_penalties
        if not isinstance(rows, list):
            raise DataError(
                "Evergreen's answer can't be read: {detail}",
                code="penalties-not-a-list",
                values={"detail": "a patron's penalties aren't a list"},
            )
        now = datetime.now(UTC)
        if any(row.usr != patron for row in rows):
            raise DataError(
                "Evergreen's answer can't be read: {detail}",
                code="penalties-of-another",
                values={"detail": "penalties of another patron"},
            )
        fields = ((row, row.standing_penalty) for row in rows if PenaltyRow.is_in_force(row.stop_date, now))
        return [
            PenaltyRow(
                row.id, patron, kind if isinstance(kind, int) else kind.id, row.org_unit, row.staff, row.set_date
            )
            for row, kind in fields
        ]
