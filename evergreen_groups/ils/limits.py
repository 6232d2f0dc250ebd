"""The limit of each patron, from the configuration or from Evergreen's own thresholds.

Source for thresholds: the SQL function ``actor.calculate_system_penalties`` (Evergreen's ``100.circ_matrix.sql``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils.bills import read_fines_within
from evergreen_groups.ils.org_units import Profiles
from evergreen_groups.ils.penalties import PATRON_EXCEEDS_FINES, read_fines_penalties
from evergreen_groups.ils.permissions import VIEW_THRESHOLDS, highest_granted
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Decision, Limit, LimitRule, decide
from evergreen_groups.settings import PolicySettings
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnits


@dataclass(frozen=True, slots=True)
class ResolvedLimit:
    """The limit of one patron. ``scope`` are the ids of the org units whose transactions count (None: all)."""

    limit: Limit
    scope: frozenset[int] | None = None

    def decide(self, counted_fines: Decimal | None) -> Decision:
        """Decide about a patron who owes ``counted_fines`` within the scope. None: no open transactions there."""
        if counted_fines is None:
            # Evergreen's sum over no transactions is null, which reaches no threshold, not even 0.00. Open transactions
            # that add up to 0.00 do reach it. Configured limits follow the same logic.
            return Decision(False, ZERO, self.limit)
        return decide(counted_fines, self.limit)


class Threshold(NamedTuple):
    """A row of ``pgpt``: at ``org_unit``, patrons of ``profile`` and below who owe ``amount`` get ``penalty``."""

    org_unit: int
    profile: int
    penalty: int
    amount: Decimal


class Thresholds:
    """Evergreen's thresholds, and the search for the one that applies to a patron.

    With ``gateway``, ``rows`` aren't all thresholds: each home library's are read when it is searched.
    """

    def __init__(
        self,
        rows: Iterable[Threshold],
        penalties: Mapping[int, int],
        org_units: OrgUnits,
        profiles: Profiles,
        gateway: Gateway | None = None,
    ) -> None:
        self._gateway, self._penalties, self._org_units, self._profiles = gateway, penalties, org_units, profiles
        self._rows = {(row.org_unit, row.profile, row.penalty): row for row in rows}
        # By home library that was read: the refusal, or None.
        self._refusals: dict[int, PermissionDeniedError | None] = {}

    @classmethod
    def read(
        cls, gateway: Gateway, org_units: OrgUnits, profiles: Profiles, penalties: Mapping[int, int]
    ) -> Thresholds:
        """Read thresholds: all at once if the account may see them all, else later, once per home library.

        pcrud silently omits the rows of higher org units for branch staff (``pcrud-080``), but
        ``grp_penalty_threshold.ranged.retrieve`` includes them (``settings-023``).
        """
        # Check the permission first: hidden rows look like missing rows, and missing a threshold means a wrong limit.
        if org_units.root.id not in highest_granted(gateway, [VIEW_THRESHOLDS])[VIEW_THRESHOLDS]:
            return cls((), penalties, org_units, profiles, gateway)
        rows = gateway.pcrud.all_columns("pgpt", ("org_unit", "grp", "penalty", "threshold"))
        return cls((Threshold(*row) for row in rows), penalties, org_units, profiles)

    @property
    def complete(self) -> bool:
        """Whether all thresholds are loaded, so that :meth:`find` needs no call."""
        return self._gateway is None

    def with_gateway(self, gateway: Gateway) -> Thresholds:
        """Return thresholds that share what was read so far, but read through ``gateway``, of the same session."""
        thresholds = copy.copy(self)
        thresholds._gateway = self._gateway and gateway
        return thresholds

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """Return the nearest threshold, or None. Raises the errors of :meth:`search`."""
        return next((found for _place, found in self.search(profile, home_library) if found is not None), None)

    def search(self, profile: int, home_library: int) -> Iterator[tuple[tuple[int, int], Threshold | None]]:
        """Yield the places (org unit and profile) where the ILS looks for a threshold, up to the first that has one.

        Raises PermissionDeniedError if the account lacks VIEW_GROUP_PENALTY_THRESHOLD at the home library.
        """
        self._read_at(home_library)
        penalty = self._penalties.get(home_library, PATRON_EXCEEDS_FINES)
        # The SQL function searches all profiles at one org unit before the org unit above (penalties-update-019: a
        # profile's own 25.00 comes before the 10.00 for all patrons).
        for place in product(self._org_units.upwards(home_library), self._profiles.upwards(profile)):
            found = self._rows.get((*place, penalty))
            yield place, found
            if found is not None:
                return

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:
        """Return the nearest threshold as a limit. Raises the errors of :meth:`search`."""
        found = self.find(profile, home_library)
        if found is None:
            return ResolvedLimit(Limit(None, origin=Message("Evergreen: no threshold")))
        # Only bills of the full path of the threshold's org unit count (fines-elsewhere-008): 20.00 owed in another
        # system don't reach a threshold of 5.00 here.
        scope = frozenset(self._org_units.full_path(found.org_unit))
        values = {"profile": self._profiles.name(found.profile), "library": self._org_units.shortname(found.org_unit)}
        origin = Message("Evergreen: threshold of {profile} at {library}", values=values)
        # Whatever the configured comparison, Evergreen compares with >= (penalties-update-015: 10.00 at 10.00).
        limit = Limit(found.amount, Comparison.REACHES, origin)
        return ResolvedLimit(limit, None if len(scope) == len(self._org_units) else scope)

    def _read_at(self, home_library: int) -> None:
        if self._gateway is None:
            return
        # Ask once per library, not once per patron.
        if home_library not in self._refusals:
            refusal = None
            try:
                # The ILS checks the permission at the requested library: branch staff get only theirs (settings-024).
                method = "open-ils.actor.grp_penalty_threshold.ranged.retrieve.atomic"
                result = self._gateway.call("open-ils.actor", method, TOKEN, home_library)
                above = {"org_unit": self._org_units.upwards(home_library)}
                for row in self._gateway.pcrud.checked("pgpt", result.listing(), above):
                    place = row.org_unit, row.grp, row.penalty
                    self._rows[place] = Threshold(*place, row.threshold)
            except PermissionDeniedError as error:
                refusal = error
            self._refusals[home_library] = refusal
        if (refused := self._refusals[home_library]) is not None:
            raise refused.with_traceback(None)


_CONFIGURATION = Message("configuration")


class Limits:
    """The limits of all patrons: by the rules in ``[[policy.limits]]``, else by the setting ``limit``.

    A rule applies if its profile and library are the patron's or above them. If several apply, the one with the nearest
    library wins, and among these the one with the nearest profile. Rules without one come last.
    """

    def __init__(
        self,
        settings: PolicySettings,
        org_units: OrgUnits | None = None,
        profiles: Profiles | None = None,
        thresholds: Thresholds | None = None,
        origin: str = _CONFIGURATION,
    ) -> None:
        """``org_units`` and ``profiles`` are needed unless the limit is uniform, ``thresholds`` for the ILS's."""
        self.uniform = settings.uniform
        """Whether the same limit applies to all patrons, and the fines of all libraries count."""
        self._settings, self._thresholds, self._origin = settings, thresholds, origin
        self._rules: dict[tuple[int | None, int | None], LimitRule] = {}
        if org_units is not None and profiles is not None:
            self._trees = org_units, profiles
            for rule in settings.limits:
                library = None if rule.library is None else org_units.find(rule.library).id
                self._rules[library, None if rule.profile is None else profiles.find(rule.profile)] = rule
        self._known: dict[tuple[int, int], ResolvedLimit] = {}

    @property
    def need_transactions(self) -> bool:
        """Whether a patron with 0.00 may be over a limit only because they have open transactions."""
        settings = self._settings
        if settings.limit == "ils":
            return True
        rules = (*settings.limits, LimitRule(None, None, settings.limit))
        reached = [rule for rule in rules if (rule.comparison or settings.comparison) is Comparison.REACHES]
        # A sum of 0.00 reaches such a limit, unlike the sum of no transactions.
        return any(rule.amount is not None and rule.amount <= 0 for rule in reached)

    @classmethod
    def of(cls, limit: Limit) -> Limits:
        """Return the same configured ``limit`` for all patrons."""
        settings = PolicySettings(limit=limit.amount, comparison=limit.comparison)
        return cls(settings, origin=limit.origin or _CONFIGURATION)

    @classmethod
    def read(
        cls,
        gateway: Gateway,
        settings: PolicySettings,
        org_units: OrgUnits,
        penalties: Mapping[int, int] | None = None,
        profiles: Profiles | None = None,
    ) -> Limits:
        """Read the data for the limits: no call for one amount, two calls with rules, six for the ILS's thresholds.

        ``penalties`` (:func:`read_fines_penalties`) and ``profiles`` are read if missing. Raises ConfigurationError if
        a rule names an unknown profile or library, and DataError if the ILS's setting for the penalty is invalid.
        """
        if settings.uniform:
            return cls(settings)
        profiles, thresholds = profiles or Profiles.read(gateway), None
        if settings.limit == "ils":
            penalties = read_fines_penalties(gateway, org_units) if penalties is None else penalties
            thresholds = Thresholds.read(gateway, org_units, profiles, penalties)
        return cls(settings, org_units, profiles, thresholds)

    def with_gateway(self, gateway: Gateway) -> Limits:
        """Return the same limits, which read thresholds through ``gateway`` from now on."""
        if self._thresholds is None:
            return self
        # A shallow copy: both objects share everything read so far.
        limits = copy.copy(self)
        limits._thresholds = self._thresholds.with_gateway(gateway)
        return limits

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:
        """Return the limit for patrons with this profile and home library; PermissionDeniedError for a hidden one."""
        key = profile, home_library
        # Worth caching: a report has thousands of patrons, but only dozens of pairs of profile and home library.
        if key not in self._known:
            self._known[key] = self._find(profile, home_library)
        return self._known[key]

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:
        """Like :meth:`limit_for`, but return None if the limit is an ILS threshold that the account may not see.

        The stock profile Circulators sees patrons of the whole system, but only its own branch's thresholds.
        """
        try:
            return self.limit_for(profile, home_library)
        except PermissionDeniedError:
            return None

    def _find(self, profile: int, home_library: int) -> ResolvedLimit:
        if self._rules:
            org_units, profiles = self._trees
            # Search like the ILS does for its thresholds, so that both can be explained in the same way.
            for place in product((*org_units.upwards(home_library), None), (*profiles.upwards(profile), None)):
                if (rule := self._rules.get(place)) is not None:
                    names = ", ".join(filter(None, (rule.profile, rule.library)))
                    origin = Message("{label}: {value}", values={"label": _CONFIGURATION, "value": names})
                    return ResolvedLimit(Limit(rule.amount, rule.comparison or self._settings.comparison, origin))
        if self._settings.limit != "ils":
            return ResolvedLimit(Limit(self._settings.limit, self._settings.comparison, self._origin))
        if self._thresholds is None:
            raise ValueError("limits by thresholds need the thresholds")
        return self._thresholds.limit_for(profile, home_library)


def decide_all(
    gateway: Gateway,
    limits: Mapping[int, ResolvedLimit],
    own_fines: Mapping[int, Decimal],
    *,
    leave_out_hidden: bool = False,
) -> dict[int, Decision]:
    """Decide about patrons, by id. No call if all their fines count, else one per 3,000 patrons.

    ``own_fines`` has what patrons with open transactions owe at all libraries. A decision's ``counted_fines`` includes
    only the fines that the limit counts. Hidden transactions raise DataError unless ``leave_out_hidden``.
    """
    scopes = {id: limit.scope for id, limit in limits.items() if limit.scope is not None}
    within = read_fines_within(gateway, scopes, own_fines, leave_out_hidden=leave_out_hidden) if scopes else {}
    counted: dict[int, Decimal | None] = {id: own_fines.get(id) for id in limits.keys() - scopes.keys()} | within
    return {id: limit.decide(counted[id]) for id, limit in limits.items() if id in counted}
