"""Differences between Evergreen's releases, and between sites, in one table.

By default, the sandbox behaves like the release whose recorded traffic it is compared with. Each difference names its
evidence: the id of a recorded exchange, or a file of Evergreen's source in a release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox.database import ClassChange, IdlClasses, StoredLink, idl_classes

LATEST_PATCHES = {"3.11": 7, "3.12": 10, "3.13": 11, "3.14": 12, "3.15": 14, "3.16": 10, "3.17": 4}
"""The supported releases with the latest patch of each, which is the default."""
CURRENT = "3.17"
_FORM = re.compile(r"(\d+\.\d+)(?:\.(\d+))?", re.ASCII)

Numbers = tuple[int, ...]


def release_numbers(release: str) -> Numbers:
    """Parse a release; without a patch number, it means the latest patch.

    >>> release_numbers("3.14.3"), release_numbers("3.14")
    ((3, 14, 3), (3, 14, 12))

    Raises:
        ConfigurationError: the sandbox doesn't support the release.
    """
    match = _FORM.fullmatch(release)
    latest = LATEST_PATCHES.get(match[1]) if match else None
    if match is None or latest is None or int(match[2] or 0) > latest:
        raise ConfigurationError(
            "unknown release {release}",
            advice="allowed: {allowed}",
            code="release-unknown",
            values={"release": release, "allowed": f"{', '.join(LATEST_PATCHES)}, or a patch release (3.14.10)"},
        )
    return (*_series(match[1]), int(match[2] or latest))


def _series(text: str) -> Numbers:
    return tuple(map(int, text.split(".")))


def came_before(release: str, changed: tuple[str, ...]) -> bool:
    """Return whether a release is older than a change; False if ``changed`` is empty.

    ``changed`` are the first releases with the change: the last one is a new series, those before it are patches of
    series that were still maintained.

    >>> came_before("3.13.8", ("3.13.9", "3.14.4", "3.15.0")), came_before("3.13.9", ("3.13.9", "3.14.4", "3.15.0"))
    (True, False)
    """
    if not changed:
        return False
    numbers = release_numbers(release)
    arrivals = [_series(text) for text in changed]
    of_series = [arrival for arrival in arrivals if arrival[:2] == numbers[:2]]
    return numbers < (of_series or arrivals[-1:])[0]


def ils_version(release: str | None) -> str:
    """Return the version that Evergreen reports; for the latest release, what the recorded development build reports.

    >>> ils_version("3.12"), ils_version("3.17"), ils_version("3.17.2")
    ('3-12-10', 'HEAD', '3-17-2')
    """
    if release in (None, CURRENT):
        return "HEAD"
    return "-".join(map(str, release_numbers(release)))


@dataclass(frozen=True, slots=True)
class Difference:
    """One behavior that older releases or some sites have, and the latest release doesn't.

    Attributes:
        evidence: the id of a recorded exchange, or a file of Evergreen's source in a release.
        until: the first releases without the behavior, as in :func:`came_before`; empty if it depends on the site.
        since: the first releases with the behavior; empty if all older ones have it.
        services: services that don't exist.
        absent: prefixes of methods that don't exist.
        only: methods that exist only together with the behavior.
        classes: differences in the IDL.
    """

    name: str
    evidence: str
    until: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    classes: tuple[ClassChange, ...] = ()

    @property
    def site(self) -> bool:
        """Whether the behavior depends on the site: its message bus, its replicas, its settings."""
        return not self.until

    def holds_for(self, release: str) -> bool:
        """Return whether a release (``"3.12"``, ``"3.15.2"``) has the behavior; False if it depends on the site."""
        return not self.site and came_before(release, self.until) and not came_before(release, self.since)


HIDDEN_ROWS_COUNT = Difference("hidden-rows-count", "3.12/releases-045", until=("3.14.0",))
"""``limit`` and ``offset`` are applied by the database, so they count duplicate and hidden rows that are dropped later.

Newer releases read a cursor until they have enough visible rows (``oils_sql.c`` of 3.14.0).
"""

KEY_MUST_BE_SELECTED = Difference("key-must-be-selected", "3.12/releases-019", until=("3.16.0",))
"""Each row is fetched again by its key to check permissions, so a ``select`` without the key fails with status 500."""

NO_COUNT = Difference("no-count", "3.12/releases-059", until=("3.16.0",), absent=("open-ils.pcrud.count.",))
"""pcrud has no ``count``."""

COPIES_UNSAID = Difference(
    "copies-unsaid", "3.11/releases-056", until=("3.12.0",), absent=("opensrf.open-ils.system.use_authoritative",)
)
"""No service reports whether plain reads come from replicas of the database."""

NO_OVERDUE_COUNT = Difference(
    "no-overdue-count",
    "3.12/patrons-072",
    until=("3.17.0",),
    absent=("open-ils.actor.usergroup.members.overdue_count",),
)
"""There is no count of a group's overdue items, neither as a method nor among a patron's vital statistics."""

CARDS_STAY = Difference("cards-stay", "Actor.pm of 3.17.0", until=("3.17.0",))
"""Marking a card as deleted is ignored: it is updated if it is marked as changed too, else left alone."""

GUARDIAN_NO_KEYWORD = Difference("guardian-no-keyword", "005.schema.actors.sql of 3.17.0", until=("3.17.0",))
"""A patron search by name doesn't find guardians."""

MISSING_ROWS_WRITTEN = Difference("missing-rows-written", "3.12/penalty-apply-remove-012", until=("3.16.0",))
"""Updating or deleting a row that doesn't exist reports success (``oils_sql.c`` of 3.16.0)."""

FUNCTIONS_UNCHECKED = Difference(
    "functions-unchecked", "oils_sql.c of 3.14.12", until=("3.14.12", "3.15.12", "3.16.6", "3.17.0")
)
"""A query may use any function of the database, including volatile ones."""

FIELDER_LISTS = Difference("fielder-lists", "Fielder.pm of 3.14.12", until=("3.14.12", "3.15.12", "3.16.6", "3.17.0"))
"""The fielder accepts a list where newer releases suspect a function with its parameters."""

FIELDER_UNCHECKED = Difference("fielder-unchecked", "Fielder.pm of 3.11.1", until=("3.11.1", "3.12.0"))
"""The fielder allows functions, and returns nothing for a missing query instead of an event."""

SEARCH_UNCHECKED = Difference(
    "search-unchecked", "Storage/Publisher/actor.pm of 3.15.13", until=("3.15.13", "3.16.7", "3.17.1")
)
"""The patron search puts field names into its SQL unchecked, so an unknown one fails."""

ALWAYS_BY_PENALTIES = Difference(
    "always-by-penalties",
    "Storage/Publisher/actor.pm of 3.16.8",
    since=("3.15.13", "3.16.7", "3.17.1"),
    until=("3.16.8", "3.17.2"),
)
"""The patron search always sorts by the number of penalties first."""

PHONES_OF_PATRONS_ALONE = Difference(
    "phones-of-patrons-alone", "Storage/Publisher/actor.pm of 3.15.0", until=("3.15.0",)
)
"""The patron search finds phone numbers of the patron record only, not of the patron's settings."""

NO_API_LOGINS = Difference("no-api-logins", "oils_auth.c of 3.15.0", until=("3.15.0",))
"""There are no logins of the type ``api``."""

ALL_USERS_LOG_IN = Difference("all-users-log-in", "950.data.seed-values.sql of 3.15.0", until=("3.15.0",))
"""The stock root profile *Users* grants OPAC_LOGIN and PERSISTENT_LOGIN; in 3.15, *Patrons* and *Staff* do instead."""

NO_SECOND_FACTOR = Difference("no-second-factor", "3.12/auth-001", until=("3.14.0",), services=("open-ils.auth_mfa",))
"""There is no second factor, so the event of a login has no ``provisional`` field."""

NOTES_ARE_PENALTIES = Difference(
    "notes-are-penalties",
    "Actor.pm of 3.14.0",
    until=("3.14.0",),
    absent=("open-ils.actor.user.note.",),
    only=("open-ils.actor.user.penalty.note.update",),
)
"""Notes have no methods of their name, only those of penalties."""

DELETED_IN_CREDIT = Difference("deleted-in-credit", "Actor.pm of 3.11.5", until=("3.11.5", "3.12.3", "3.13.0"))
"""The list of patrons with a negative balance includes deleted ones."""


FIELDS_OF_3_16 = Difference(
    "fields-of-3.16",
    "fm_IDL.xml of 3.16.0",
    until=("3.16.0",),
    classes=(
        ClassChange("acp", absent=("in_house_use",)),
        ClassChange("aou", absent=("staff_catalog_visible",)),
        ClassChange("au", absent=("guardian_email",)),
        # The older IDL has a link for ``renewals``, but no field of that name.
        ClassChange("circ", absent=("renewal",), links=(StoredLink("renewals", "has_many", "parent_circ", "circ"),)),
        ClassChange("pgt", absent=("temporary_perm_interval", "erenew")),
    ),
)
"""Fields added in 3.16 are missing, so later fields of an object have another index."""

FIELDS_OF_3_15 = Difference(
    "fields-of-3.15",
    "fm_IDL.xml of 3.15.0",
    until=("3.15.0",),
    classes=(ClassChange("acp", absent=("open_circulation",)),),
)
"""A field added in 3.15 is missing."""

FIELDS_OF_3_14 = Difference(
    "fields-of-3.14",
    "fm_IDL.xml of 3.14.0",
    until=("3.14.0",),
    classes=(
        ClassChange("ahr", absent=("reset_entries",)),
        ClassChange("auact", absent=("event_data",)),
        ClassChange("pgt", absent=("mfa_allowed", "mfa_required")),
    ),
)
"""Fields added in 3.14 are missing, including those for the second factor."""

FIELDS_OF_3_13 = Difference(
    "fields-of-3.13",
    "fm_IDL.xml of 3.13.0",
    until=("3.13.0",),
    classes=(ClassChange("ahr", absent=("canceled_by", "canceling_ws")),),
)
"""Fields added in 3.13, which say who canceled a hold, are missing."""

ONE_LAST_CAPTURED_HOLD = Difference(
    "one-last-captured-hold",
    "fm_IDL.xml of 3.13.9",
    until=("3.13.9", "3.14.4", "3.15.0"),
    classes=(ClassChange("acp", links=(StoredLink("last_captured_hold", "has_a", "current_copy", "alhr"),)),),
)
"""An item's last captured hold is another type of link."""

NOTHING_REQUIRED = Difference(
    "nothing-required",
    "fm_IDL.xml of 3.12.3",
    until=("3.12.3", "3.13.0"),
    classes=tuple(
        ClassChange(idl_class.id, optional=tuple(item.name for item in idl_class.fields if item.required))
        for idl_class in idl_classes().values()
    ),
)
"""No field is marked as required."""

ONESELF_HIDDEN = Difference(
    "oneself-hidden",
    "fm_IDL.xml of 3.15.0",
    until=("3.15.0",),
    classes=tuple(ClassChange(class_id, owned=False) for class_id in ("au", "ac", "aua")),
)
"""Patrons can't see their own row, cards and addresses in pcrud."""

PASSWORD_READ = Difference(
    "password-read",
    "fm_IDL.xml of 3.14.11",
    until=("3.14.11", "3.15.6", "3.16.0"),
    classes=(ClassChange("au", columns=("passwd",)),),
)
"""Except for pcrud, services return the column ``passwd`` of users; it has a hash, no longer the password."""

XMPP = Difference("xmpp", "3.12/releases-060", until=("3.14.0",))
"""The message bus is XMPP: for a missing service, calls fail with a transport error instead of "not found".

Either bus works with any release; these are the releases whose recorded servers used XMPP.
"""

SILENT_BUS = Difference("silent-bus", "osrf_json_gateway.c of OpenSRF 3.3.1")
"""A missing service or a timeout isn't reported: the response is empty, with status 200."""

SECOND_FACTOR = Difference("second-factor", "MultiFactorAuth.pm of 3.14.0")
"""Staff whose profile allows a second factor get a provisional token, in a response that looks like a full login."""

REPLICA = Difference("replica", "releases-056")
"""Plain reads go to a replica that lags behind; writes and ``.authoritative`` forms use the primary."""

TABLE = (
    *(HIDDEN_ROWS_COUNT, KEY_MUST_BE_SELECTED, NO_COUNT, COPIES_UNSAID, NO_OVERDUE_COUNT, CARDS_STAY),
    *(GUARDIAN_NO_KEYWORD, MISSING_ROWS_WRITTEN, FUNCTIONS_UNCHECKED, FIELDER_LISTS, FIELDER_UNCHECKED),
    *(SEARCH_UNCHECKED, ALWAYS_BY_PENALTIES, PHONES_OF_PATRONS_ALONE, NO_API_LOGINS, ALL_USERS_LOG_IN),
    *(NO_SECOND_FACTOR, NOTES_ARE_PENALTIES, DELETED_IN_CREDIT),
    *(FIELDS_OF_3_16, FIELDS_OF_3_15, FIELDS_OF_3_14, FIELDS_OF_3_13, ONE_LAST_CAPTURED_HOLD),
    *(NOTHING_REQUIRED, ONESELF_HIDDEN, PASSWORD_READ),
    *(XMPP, SILENT_BUS, SECOND_FACTOR, REPLICA),
)


def differences(
    release: str | None, names: Iterable[str], bus: Literal["redis", "xmpp"] | None = None
) -> frozenset[Difference]:
    """Return a release's differences from the latest, plus those in ``names``; ``bus`` overrides the release's bus.

    Raises:
        ConfigurationError: a name is unknown, or the sandbox doesn't support the release.
    """
    known = {difference.name: difference for difference in TABLE}
    wanted = list(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigurationError(
            "unknown difference: {unknown}",
            advice="allowed: {allowed}",
            code="difference-unknown",
            values={"unknown": ", ".join(unknown), "allowed": ", ".join(known)},
        )
    found = {item for item in TABLE if release is not None and item.holds_for(release)}
    if bus is not None:
        found = found - {XMPP} if bus == "redis" else found | {XMPP}
    return frozenset((*found, *(known[name] for name in wanted)))


def classes_of(found: Iterable[Difference]) -> IdlClasses:
    """Return the IDL's classes with these differences."""
    return idl_classes().changed(change for difference in found for change in difference.classes)
