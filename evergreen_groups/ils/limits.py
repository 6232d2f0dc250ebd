"""Which limit counts for which patron, and where it comes from: the configuration or the ILS's own thresholds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from evergreen_groups.ils.bills import read_fines_within
from evergreen_groups.ils.profiles import Profiles
from evergreen_groups.ils.thresholds import ThresholdReader, Thresholds, read_fines_penalties
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING
from evergreen_groups.policy import Comparison, Decision, Limit, LimitRule, decide

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits
    from evergreen_groups.settings import PolicySettings

_NO_THRESHOLD = Limit(None, origin=Message("ILS: no threshold"))
_CONFIGURATION = Message("configuration")


@dataclass(frozen=True, slots=True)
class ResolvedLimit:
    """The limit of one patron.

    ``scope`` are the ids of the org units whose transactions count, None for those of everywhere.
    """

    limit: Limit
    scope: frozenset[int] | None = None

    def decide(self, own_balance: Decimal | None) -> Decision:
        """Decide about someone who owes ``own_balance`` within the scope, None: has no open transaction there."""
        if own_balance is None:
            # Evergreen's sum over no transactions is no amount, which reaches no threshold, not even one of nought
            # (actor.calculate_system_penalties). Open ones that add up to nought do reach it. A configured limit means
            # the same.
            return Decision(False, NOTHING, self.limit)
        return decide(own_balance, self.limit)


class LimitFinder(Protocol):
    """Finds the limit of each patron.

    ``need_transactions`` says that it may matter whether somebody who owes 0.00 has open transactions: where a limit
    of 0.00 is over when reached, or where not all transactions count.
    """

    @property
    def need_transactions(self) -> bool:
        """See above."""

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:
        """The limit of a patron with this profile and home library (ids)."""

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:
        """The same, None where it is one of the ILS's that the account may not see."""


class OneLimit:
    """The same ``limit`` for everybody, the configured one; their fines count wherever they are owed."""

    def __init__(self, limit: Limit) -> None:
        self.limit = replace(limit, origin=limit.origin or _CONFIGURATION)
        self._resolved = ResolvedLimit(self.limit)
        self.need_transactions = _is_reached_by_nothing(self.limit.amount, self.limit.comparison)

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:  # noqa: ARG002  # as LimitFinder has it
        """The limit."""
        return self._resolved

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:  # noqa: ARG002  # likewise
        """The limit, which everybody may see."""
        return self._resolved


class Limits:
    """The limits of all patrons.

    A rule of ``[[policy.limits]]`` that is for the patron's profile and home library, or one above them, comes first:
    of several the one for the nearest library, among those the one for the nearest profile; a rule that names no
    library is further away than any that does, and the same goes for profiles. Then ``limit``: one amount, or the
    ILS's threshold.
    """

    def __init__(
        self,
        settings: PolicySettings,
        org_units: OrgUnits,
        profiles: Profiles | None = None,
        thresholds: ThresholdReader | Thresholds | None = None,
    ) -> None:
        self._settings = settings
        self._org_units = org_units
        self._profiles = profiles
        self._thresholds = thresholds
        self._rules = {self._place(rule): rule for rule in settings.limits}
        self._known: dict[tuple[int, int], ResolvedLimit] = {}

    @property
    def need_transactions(self) -> bool:
        """As :class:`LimitFinder` has it."""
        settings = self._settings
        if settings.limit == "ils" or _is_reached_by_nothing(settings.limit, settings.comparison):
            return True
        return any(
            _is_reached_by_nothing(rule.amount, rule.comparison or settings.comparison) for rule in settings.limits
        )

    @classmethod
    def read(
        cls,
        gateway: Gateway,
        settings: PolicySettings,
        org_units: OrgUnits,
        penalties: Mapping[int, int] | None = None,
    ) -> Limits:
        """Read what the limits depend on: nothing for one amount, two calls with rules, six for the ILS's thresholds.

        ``penalties`` are those of :func:`evergreen_groups.ils.thresholds.read_fines_penalties`, read unless given.

        Raises:
            ConfigurationError: a rule names a profile or library that isn't there.
            DataError: the ILS's settings name a penalty that can't be.
        """
        if settings.uniform:
            return cls(settings, org_units)
        profiles = Profiles.read(gateway)
        if settings.limit != "ils":
            return cls(settings, org_units, profiles)
        if penalties is None:
            penalties = read_fines_penalties(gateway, org_units)
        return cls(settings, org_units, profiles, ThresholdReader(gateway, org_units, profiles, penalties))

    def reading_with(self, gateway: Gateway) -> Limits:
        """The same limits, with what they have still to read read through ``gateway``."""
        if not isinstance(self._thresholds, ThresholdReader):
            return self
        # What was read stays shared; only the session that reads on is another.
        limits = copy.copy(self)
        limits._thresholds = self._thresholds.reading_with(gateway)
        return limits

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:
        """The limit of a patron with this profile and home library (ids).

        Raises:
            PermissionDeniedError: the ILS's thresholds count, and the account may not see them.
        """
        key = profile, home_library
        # A consortium has some dozens of such pairs, a report some thousands of patrons.
        if key not in self._known:
            self._known[key] = self._by_rule(profile, home_library) or self._otherwise(profile, home_library)
        return self._known[key]

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:
        """The same, None where the ILS's threshold counts and the account may not see it.

        Stock circulators see those of the branch where they work alone, and patrons of the whole system (Evergreen's
        ``950.data.seed-values.sql``).
        """
        reader = self._thresholds
        known = (profile, home_library) in self._known or self._by_rule(profile, home_library) is not None
        if not known and isinstance(reader, ThresholdReader) and not reader.are_visible(home_library):
            return None
        return self.limit_for(profile, home_library)

    def _place(self, rule: LimitRule) -> tuple[int | None, int | None]:
        """The ids of the library and the profile that a rule is for."""
        library = None if rule.library is None else self._org_units.find(rule.library).id
        if rule.profile is None or self._profiles is None:
            return library, None
        return library, self._profiles.find(rule.profile)

    def _by_rule(self, profile: int, home_library: int) -> ResolvedLimit | None:
        if not self._rules or self._profiles is None:
            return None
        profiles = [*self._profiles.upwards(profile), None]
        # Libraries before profiles, as the ILS looks for its own thresholds, so that both are explained the same way.
        for org_unit in (*self._org_units.upwards(home_library), None):
            for ancestor in profiles:
                if (org_unit, ancestor) in self._rules:
                    rule = self._rules[org_unit, ancestor]
                    comparison = rule.comparison or self._settings.comparison
                    return ResolvedLimit(Limit(rule.amount, comparison, _rule_origin(rule)))
        return None

    def _otherwise(self, profile: int, home_library: int) -> ResolvedLimit:
        if self._settings.limit != "ils":
            return ResolvedLimit(Limit(self._settings.limit, self._settings.comparison, _CONFIGURATION))
        found = self._thresholds.find(profile, home_library) if self._thresholds else None
        if found is None or self._profiles is None:
            return ResolvedLimit(_NO_THRESHOLD)
        # Only what was billed in the full path of the threshold's org unit counts (fines-elsewhere-008): 20.00 at
        # another system reach no 5.00 here.
        scope = frozenset(self._org_units.full_path(found.org_unit))
        everywhere = len(scope) == sum(1 for _ in self._org_units)
        place = self._org_units.shortname(found.org_unit)
        values = {"profile": self._profiles.name(found.profile), "library": place}
        origin = Message("ILS: threshold of {profile} at {library}", values=values)
        return ResolvedLimit(
            # Whatever is configured: Evergreen compares with >= (penalties-update-015: 10.00 at a threshold of 10.00).
            limit=Limit(found.amount, Comparison.REACHES, origin),
            scope=None if everywhere else scope,
        )


def _is_reached_by_nothing(amount: Decimal | None, comparison: Comparison) -> bool:
    """Whether somebody who owes 0.00 is over a limit, and somebody without an open transaction is not."""
    return amount is not None and amount <= 0 and comparison is Comparison.REACHES


def _rule_origin(rule: LimitRule) -> str:
    values = {"profile": rule.profile, "library": rule.library}
    if rule.library is None:
        return Message("configuration: {profile}", values=values)
    if rule.profile is None:
        return Message("configuration: at {library}", values=values)
    return Message("configuration: {profile} at {library}", values=values)


def decide_all(
    gateway: Gateway, limits: Mapping[int, ResolvedLimit], own_fines: Mapping[int, Decimal]
) -> dict[int, Decision]:
    """Decide about patrons, by id: no call where all their fines count, otherwise one for up to 3,000 of them.

    ``limits`` has the limit of each, ``own_fines`` what each owes in open transactions anywhere; who isn't in it has
    none, which is another thing than owing 0.00 on them. The ``own_balance`` of a decision are those of the own fines
    that the limit counts.

    Raises:
        DataError: somebody's transactions have to be looked at, and the account may not.
    """
    scopes = {id: limit.scope for id, limit in limits.items() if limit.scope is not None}
    # Nothing is read where all fines count anyway, which is the usual case.
    within = read_fines_within(gateway, scopes, own_fines) if scopes else {}
    return {
        id: limit.decide(within.get(id, own_fines.get(id)))  # None is a value here: no open transaction
        for id, limit in limits.items()
    }


def decide_where_known(
    gateway: Gateway, limits: Mapping[int, ResolvedLimit], own_fines: Mapping[int, Decimal]
) -> dict[int, Decision]:
    """Decide as :func:`decide_all` does, leaving out patrons whose transactions count and aren't visible."""
    scopes = {id: limit.scope for id, limit in limits.items() if limit.scope is not None}
    within = read_fines_within(gateway, scopes, own_fines, leave_out_hidden=True) if scopes else {}
    counted: dict[int, Decimal | None] = {id: own_fines.get(id) for id in limits.keys() - scopes.keys()} | within
    return {id: limit.decide(counted[id]) for id, limit in limits.items() if id in counted}
