"""The limit of each patron, from the configuration or from the ILS's own thresholds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from evergreen_groups.ils.bills import read_fines_within
from evergreen_groups.ils.penalties import read_fines_penalties
from evergreen_groups.ils.profiles import Profiles
from evergreen_groups.ils.thresholds import ThresholdReader, Thresholds
from evergreen_groups.message import Message
from evergreen_groups.money import ZERO
from evergreen_groups.policy import Comparison, Decision, Limit, LimitRule, decide

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits
    from evergreen_groups.settings import PolicySettings

_NO_THRESHOLD = Limit(None, origin=Message("ILS: no threshold"))
_CONFIGURATION = Message("configuration")


@dataclass(frozen=True, slots=True)
class ResolvedLimit:
    """The limit of one patron. ``scope`` are the ids of the org units whose transactions count (None: all)."""

    limit: Limit
    scope: frozenset[int] | None = None

    def decide(self, own_balance: Decimal | None) -> Decision:
        """Decide about a patron who owes ``own_balance`` within the scope. None: no open transactions there."""
        if own_balance is None:
            # Evergreen's sum over no transactions is null, which reaches no threshold, not even 0.00
            # (actor.calculate_system_penalties). Open transactions that add up to 0.00 do reach it. Configured limits
            # follow the same logic.
            return Decision(False, ZERO, self.limit)
        return decide(own_balance, self.limit)


class LimitFinder(Protocol):
    """Finds the limit of each patron."""

    @property
    def need_transactions(self) -> bool:
        """Whether a patron with 0.00 may be over a limit if they have open transactions, and not if they don't.

        This is the case for a limit of 0.00 that only needs to be reached, and if not all transactions count.
        """

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:
        """Return the limit for patrons with this profile and home library (ids)."""

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:
        """Like :meth:`limit_for`, but return None if the limit is an ILS threshold that the account may not see."""


class UniformLimit:
    """The same configured ``limit`` for all patrons, at which the fines of all libraries count."""

    def __init__(self, limit: Limit) -> None:
        self.limit = replace(limit, origin=limit.origin or _CONFIGURATION)
        self._resolved = ResolvedLimit(self.limit)
        self.need_transactions = _is_reached_by_zero(self.limit.amount, self.limit.comparison)

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:  # noqa: ARG002  # as LimitFinder has it
        """Return the limit."""
        return self._resolved

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:  # noqa: ARG002  # likewise
        """Return the limit, which all accounts may see."""
        return self._resolved


class Limits:
    """The limits of all patrons, by rules and by the default.

    A rule in ``[[policy.limits]]`` applies if its profile and library are the patron's or above them. If several apply,
    the one with the nearest library wins, and among these the one with the nearest profile. Rules without a library
    come last, and the same goes for rules without a profile. Without a rule, the setting ``limit`` applies: an amount,
    or the ILS's threshold.
    """

    def __init__(
        self,
        settings: PolicySettings,
        org_units: OrgUnits,
        profiles: Profiles | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._settings = settings
        self._org_units = org_units
        self._profiles = profiles
        self._thresholds = thresholds
        self._rules = {self._rule_key(rule): rule for rule in settings.limits}
        self._known: dict[tuple[int, int], ResolvedLimit] = {}

    @property
    def need_transactions(self) -> bool:
        """See :attr:`LimitFinder.need_transactions`."""
        settings = self._settings
        if settings.limit == "ils" or _is_reached_by_zero(settings.limit, settings.comparison):
            return True
        return any(_is_reached_by_zero(rule.amount, rule.comparison or settings.comparison) for rule in settings.limits)

    @classmethod
    def read(
        cls,
        gateway: Gateway,
        settings: PolicySettings,
        org_units: OrgUnits,
        penalties: Mapping[int, int] | None = None,
    ) -> Limits:
        """Read the data for the limits: no call for one amount, two calls with rules, six for the ILS's thresholds.

        ``penalties`` come from :func:`evergreen_groups.ils.penalties.read_fines_penalties`. They are read if missing.

        Raises:
            ConfigurationError: a rule names a profile or library that doesn't exist.
            DataError: the ILS's setting for the penalty is invalid.
        """
        if settings.uniform:
            return cls(settings, org_units)
        profiles = Profiles.read(gateway)
        if settings.limit != "ils":
            return cls(settings, org_units, profiles)
        if penalties is None:
            penalties = read_fines_penalties(gateway, org_units)
        return cls(settings, org_units, profiles, ThresholdReader(gateway, org_units, profiles, penalties))

    def with_gateway(self, gateway: Gateway) -> Limits:
        """Return the same limits, which read thresholds through ``gateway`` from now on."""
        if self._thresholds is None:
            return self
        # A shallow copy: both objects share everything read so far.
        limits = copy.copy(self)
        limits._thresholds = self._thresholds.with_gateway(gateway)
        return limits

    def limit_for(self, profile: int, home_library: int) -> ResolvedLimit:
        """Return the limit for patrons with this profile and home library (ids).

        Raises:
            PermissionDeniedError: the limit is an ILS threshold that the account may not see.
        """
        key = profile, home_library
        # Worth caching: a report has thousands of patrons, but only dozens of pairs of profile and home library.
        if key not in self._known:
            self._known[key] = self._by_rule(profile, home_library) or self._default(profile, home_library)
        return self._known[key]

    def visible_limit_for(self, profile: int, home_library: int) -> ResolvedLimit | None:
        """Like :meth:`limit_for`, but return None if the limit is an ILS threshold that the account may not see.

        That is common: the stock profile Circulators sees patrons of the whole system, but only the thresholds of its
        own branch (Evergreen's ``950.data.seed-values.sql``).
        """
        # Rules need no permission, and a cached threshold has been read with it.
        known = (profile, home_library) in self._known or self._by_rule(profile, home_library) is not None
        if not known and self._thresholds is not None and not self._thresholds.are_visible(home_library):
            return None
        return self.limit_for(profile, home_library)

    def _rule_key(self, rule: LimitRule) -> tuple[int | None, int | None]:
        """Return the ids of the rule's library and profile."""
        library = None if rule.library is None else self._org_units.find(rule.library).id
        if rule.profile is None or self._profiles is None:
            return library, None
        return library, self._profiles.find(rule.profile)

    def _by_rule(self, profile: int, home_library: int) -> ResolvedLimit | None:
        if not self._rules or self._profiles is None:
            return None
        profiles = [*self._profiles.upwards(profile), None]
        # Search like the ILS does for its thresholds, so that both can be explained in the same way.
        for org_unit in (*self._org_units.upwards(home_library), None):
            for ancestor in profiles:
                if (org_unit, ancestor) in self._rules:
                    rule = self._rules[org_unit, ancestor]
                    comparison = rule.comparison or self._settings.comparison
                    return ResolvedLimit(Limit(rule.amount, comparison, _rule_origin(rule)))
        return None

    def _default(self, profile: int, home_library: int) -> ResolvedLimit:
        if self._settings.limit != "ils":
            return ResolvedLimit(Limit(self._settings.limit, self._settings.comparison, _CONFIGURATION))
        found = self._thresholds.find(profile, home_library) if self._thresholds else None
        if found is None or self._profiles is None:
            return ResolvedLimit(_NO_THRESHOLD)
        # Only bills of the full path of the threshold's org unit count (fines-elsewhere-008): 20.00 owed in another
        # system don't reach a threshold of 5.00 here.
        scope = frozenset(self._org_units.full_path(found.org_unit))
        everywhere = len(scope) == len(self._org_units)
        library = self._org_units.shortname(found.org_unit)
        values = {"profile": self._profiles.name(found.profile), "library": library}
        origin = Message("ILS: threshold of {profile} at {library}", values=values)
        return ResolvedLimit(
            # The configured comparison is ignored: Evergreen compares with >= (penalties-update-015: 10.00 at a
            # threshold of 10.00).
            limit=Limit(found.amount, Comparison.REACHES, origin),
            scope=None if everywhere else scope,
        )


def _is_reached_by_zero(amount: Decimal | None, comparison: Comparison) -> bool:
    """Return whether open transactions with a sum of 0.00 reach the limit. Without open transactions nothing does."""
    return amount is not None and amount <= 0 and comparison is Comparison.REACHES


def _rule_origin(rule: LimitRule) -> str:
    values = {"profile": rule.profile, "library": rule.library}
    if rule.library is None:
        return Message("configuration: {profile}", values=values)
    if rule.profile is None:
        return Message("configuration: at {library}", values=values)
    return Message("configuration: {profile} at {library}", values=values)


def decide_all(
    gateway: Gateway,
    limits: Mapping[int, ResolvedLimit],
    own_fines: Mapping[int, Decimal],
    *,
    leave_out_hidden: bool = False,
) -> dict[int, Decision]:
    """Decide about patrons, by id. No call if all their fines count, else one per 3,000 patrons.

    ``limits`` has the limit of each patron. ``own_fines`` has what each owes at all libraries, and leaves out patrons
    without open transactions. A decision's ``own_balance`` includes only the fines that the limit counts.
    ``leave_out_hidden`` leaves out patrons whose transactions are needed and hidden.

    Raises:
        DataError: not all fines count, and the account can't see a patron's transactions.
    """
    scopes = {id: limit.scope for id, limit in limits.items() if limit.scope is not None}
    within = read_fines_within(gateway, scopes, own_fines, leave_out_hidden=leave_out_hidden) if scopes else {}
    counted: dict[int, Decimal | None] = {id: own_fines.get(id) for id in limits.keys() - scopes.keys()} | within
    return {id: limit.decide(counted[id]) for id, limit in limits.items() if id in counted}
