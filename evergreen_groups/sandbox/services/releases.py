"""What differs between Evergreen's releases and between sites, as one table.

The sandbox answers as the release of the exchanges it is compared with, unless it is told to behave otherwise. Each
difference has the id of the exchange that shows it, or the file of Evergreen's source and the release where it was
read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox.database import ClassChange, IdlClasses, StoredLink, idl_classes

if TYPE_CHECKING:
    from collections.abc import Iterable

LATEST_PATCHES = {"3.11": 7, "3.12": 10, "3.13": 11, "3.14": 12, "3.15": 14, "3.16": 10, "3.17": 4}
"""The releases that it can be, each with the latest patch there was: what a number without one means."""
CURRENT = "3.17"
_FORM = re.compile(r"(\d+\.\d+)(?:\.(\d+))?", re.ASCII)

Numbers = tuple[int, ...]


def release_numbers(release: str) -> Numbers:
    """The three numbers of a release: of ``3.14.10`` its own, of ``3.14`` those of its latest patch.

    >>> release_numbers("3.14.3"), release_numbers("3.14")
    ((3, 14, 3), (3, 14, 12))

    Raises:
        ConfigurationError: it is none that the sandbox can be.
    """
    match = _FORM.fullmatch(release)
    latest = LATEST_PATCHES.get(match[1]) if match else None
    if match is None or latest is None or int(match[2] or 0) > latest:
        raise ConfigurationError(
            "the sandbox can't be Evergreen {release}",
            advice="it can be {known}, and each of them with its patch, as in 3.14.10",
            code="release-unknown",
            values={"release": release, "known": ", ".join(LATEST_PATCHES)},
        )
    return (*_series(match[1]), int(match[2] or latest))


def _series(text: str) -> Numbers:
    return tuple(map(int, text.split(".")))


def came_before(release: str, changed: tuple[str, ...]) -> bool:
    """Whether a release came before a change, of which ``changed`` are the first releases with it; none: never.

    The last of those is the first that had it from its beginning; older releases that were still cared for then may
    have got it with a patch.

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
    """What Evergreen says of its version; the latest was recorded from a build of its development.

    >>> ils_version("3.12"), ils_version("3.17"), ils_version("3.17.2")
    ('3-12-10', 'HEAD', '3-17-2')
    """
    if release in (None, CURRENT):
        return "HEAD"
    return "-".join(map(str, release_numbers(release)))


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise in older releases, or at some sites.

    ``evidence`` is the id of an exchange that shows it, or a file of Evergreen's source with the release to read it in.
    ``until`` are the first releases without it: the last of them from its beginning, those before it by a patch; none
    where it depends on the ``site`` and not on the release. ``since`` are the first releases with it, in the same way;
    none where it has always been so. ``services`` and ``absent``, the beginnings of names of methods, aren't there;
    ``only`` are names of methods that are there with it alone. ``classes`` is what is otherwise in the IDL.
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
        """Whether it is the site's affair: its bus, its copies of the database."""
        return not self.until

    def holds_for(self, release: str) -> bool:
        """Whether a release (``"3.12"``, ``"3.15.2"``) behaves so; never for what is the site's affair."""
        return not self.site and came_before(release, self.until) and not came_before(release, self.since)


HIDDEN_ROWS_COUNT = Difference("hidden-rows-count", "3.12/releases-045", until=("3.14.0",))
"""``limit`` and ``offset`` are the database's: rows met twice and hidden ones count, and are then left out.

Later a cursor is read until enough visible rows have come (``oils_sql.c`` of 3.14.0).
"""

KEY_MUST_BE_SELECTED = Difference("key-must-be-selected", "3.12/releases-019", until=("3.16.0",))
"""Each row is checked by itself: it is fetched again by its key, so that a ``select`` without it is status 500."""

NO_COUNT = Difference("no-count", "3.12/releases-059", until=("3.16.0",), absent=("open-ils.pcrud.count.",))
"""pcrud has no ``count``."""

COPIES_UNSAID = Difference(
    "copies-unsaid",
    "3.11/releases-056",
    until=("3.12.0",),
    absent=("opensrf.open-ils.system.use_authoritative",),
)
"""No service says whether plain reads come from copies of the database."""

NO_OVERDUE_COUNT = Difference(
    "no-overdue-count",
    "3.12/patrons-072",
    until=("3.17.0",),
    absent=("open-ils.actor.usergroup.members.overdue_count",),
)
"""A group's overdue items aren't counted, nor said among a patron's vital statistics."""

CARDS_STAY = Difference("cards-stay", "Actor.pm of 3.17.0", until=("3.17.0",))
"""A card that is marked as deleted is written like one that is only marked as changed, or not at all."""

GUARDIAN_NO_KEYWORD = Difference("guardian-no-keyword", "005.schema.actors.sql of 3.17.0", until=("3.17.0",))
"""A patron's guardian isn't found among the words of the name."""

MISSING_ROWS_WRITTEN = Difference("missing-rows-written", "3.12/penalty-apply-remove-012", until=("3.16.0",))
"""Whoever changes or deletes a row that isn't there is told that it has been done (``oils_sql.c`` of 3.16.0)."""

FUNCTIONS_UNCHECKED = Difference(
    "functions-unchecked", "oils_sql.c of 3.14.12", until=("3.14.12", "3.15.12", "3.16.6", "3.17.0")
)
"""A query may name any function of the database, those too that give another value each time."""

FIELDER_LISTS = Difference("fielder-lists", "Fielder.pm of 3.14.12", until=("3.14.12", "3.15.12", "3.16.6", "3.17.0"))
"""The fielder lets a list stand where it could be a function with its parameters."""

FIELDER_UNCHECKED = Difference("fielder-unchecked", "Fielder.pm of 3.11.1", until=("3.11.1", "3.12.0"))
"""The fielder lets anybody name functions, and takes no offence at a query that is none."""

SEARCH_UNCHECKED = Difference(
    "search-unchecked", "Storage/Publisher/actor.pm of 3.15.13", until=("3.15.13", "3.16.7", "3.17.1")
)
"""The patron search puts names of fields into its SQL as they come, so that an unknown one breaks it down."""

ALWAYS_BY_PENALTIES = Difference(
    "always-by-penalties",
    "Storage/Publisher/actor.pm of 3.16.8",
    since=("3.15.13", "3.16.7", "3.17.1"),
    until=("3.16.8", "3.17.2"),
)
"""The patron search sorts by the number of penalties first, asked for or not."""

PHONES_OF_PATRONS_ALONE = Difference(
    "phones-of-patrons-alone", "Storage/Publisher/actor.pm of 3.15.0", until=("3.15.0",)
)
"""The patron search looks for telephone numbers among those of the record, not among the patron's settings."""

NO_API_LOGINS = Difference("no-api-logins", "oils_auth.c of 3.15.0", until=("3.15.0",))
"""There are no logins of the type ``api``, and no passwords for them."""

ALL_USERS_LOG_IN = Difference("all-users-log-in", "950.data.seed-values.sql of 3.15.0", until=("3.15.0",))
"""The stock profile *Users*, above all others, has OPAC_LOGIN and PERSISTENT_LOGIN; later *Patrons* and *Staff* do."""

NO_SECOND_FACTOR = Difference("no-second-factor", "3.12/auth-001", until=("3.14.0",), services=("open-ils.auth_mfa",))
"""There is no second factor: a login says nothing of being ``provisional``."""

NOTES_ARE_PENALTIES = Difference(
    "notes-are-penalties",
    "Actor.pm of 3.14.0",
    until=("3.14.0",),
    absent=("open-ils.actor.user.note.",),
    only=("open-ils.actor.user.penalty.note.update",),
)
"""Notes are set, changed and removed by the names of penalties alone."""

DELETED_IN_CREDIT = Difference("deleted-in-credit", "Actor.pm of 3.11.5", until=("3.11.5", "3.12.3", "3.13.0"))
"""Deleted patrons are among those with a negative balance."""


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
"""Fields that came with 3.16, so that those after them stand elsewhere in an object."""

FIELDS_OF_3_15 = Difference(
    "fields-of-3.15",
    "fm_IDL.xml of 3.15.0",
    until=("3.15.0",),
    classes=(ClassChange("acp", absent=("open_circulation",)),),
)
"""A field that came with 3.15."""

FIELDS_OF_3_14 = Difference(
    "fields-of-3.14",
    "fm_IDL.xml of 3.14.0",
    until=("3.14.0",),
    classes=(
        ClassChange("auact", absent=("event_data",)),
        ClassChange("pgt", absent=("mfa_allowed", "mfa_required")),
    ),
)
"""Fields that came with 3.14, those of the second factor among them."""

ONE_LAST_CAPTURED_HOLD = Difference(
    "one-last-captured-hold",
    "fm_IDL.xml of 3.13.9",
    until=("3.13.9", "3.14.4", "3.15.0"),
    classes=(ClassChange("acp", links=(StoredLink("last_captured_hold", "has_a", "current_copy", "alhr"),)),),
)
"""An item's last captured hold is a link of another kind."""

NOTHING_REQUIRED = Difference(
    "nothing-required",
    "fm_IDL.xml of 3.12.3",
    until=("3.12.3", "3.13.0"),
    classes=tuple(
        ClassChange(known.id, optional=tuple(item.name for item in known.fields if item.required))
        for known in idl_classes().values()
    ),
)
"""No field is marked as required."""

ONESELF_HIDDEN = Difference(
    "oneself-hidden",
    "fm_IDL.xml of 3.15.0",
    until=("3.15.0",),
    classes=tuple(ClassChange(class_id, owned=False) for class_id in ("au", "ac", "aua")),
)
"""Patrons don't see their own row, cards and addresses in pcrud."""

PASSWORD_READ = Difference(
    "password-read",
    "fm_IDL.xml of 3.14.11",
    until=("3.14.11", "3.15.6", "3.16.0"),
    classes=(ClassChange("au", columns=("passwd",)),),
)
"""A user's column ``passwd`` is read like any other, but by pcrud; there is no password in it any more, but a hash."""

XMPP = Difference("xmpp", "3.12/releases-060", until=("3.14.0",))
"""The bus is XMPP: a service that isn't there is a transport error, not a service that wasn't found.

A site may have either bus with any release. This is what the recorded servers of that time had.
"""

SILENT_BUS = Difference("silent-bus", "osrf_json_gateway.c of OpenSRF 3.3.1")
"""Where a service isn't there, or doesn't answer in time, nothing is said of it: an empty answer with status 200."""

SECOND_FACTOR = Difference("second-factor", "MultiFactorAuth.pm of 3.14.0")
"""Staff whose profile allows a second factor are asked for it: the login waits, though it looks like another."""

REPLICA = Difference("replica", "releases-056")
"""Plain reads go to a copy of the database that is behind; ``.authoritative`` forms and writes see the original."""

TABLE = (
    *(
        HIDDEN_ROWS_COUNT,
        KEY_MUST_BE_SELECTED,
        NO_COUNT,
        COPIES_UNSAID,
        NO_OVERDUE_COUNT,
        CARDS_STAY,
        GUARDIAN_NO_KEYWORD,
    ),
    *(MISSING_ROWS_WRITTEN, FUNCTIONS_UNCHECKED, FIELDER_LISTS, FIELDER_UNCHECKED, SEARCH_UNCHECKED),
    *(ALWAYS_BY_PENALTIES, PHONES_OF_PATRONS_ALONE, NO_API_LOGINS, ALL_USERS_LOG_IN, NO_SECOND_FACTOR),
    *(NOTES_ARE_PENALTIES, DELETED_IN_CREDIT),
    *(FIELDS_OF_3_16, FIELDS_OF_3_15, FIELDS_OF_3_14, ONE_LAST_CAPTURED_HOLD, NOTHING_REQUIRED),
    *(ONESELF_HIDDEN, PASSWORD_READ),
    *(XMPP, SILENT_BUS, SECOND_FACTOR, REPLICA),
)


def differences(
    release: str | None, names: Iterable[str], bus: Literal["redis", "xmpp"] | None = None
) -> frozenset[Difference]:
    """Those that a release has (None: the latest) on a bus (None: that of its time), and those named besides.

    Raises:
        ConfigurationError: there is no difference of that name, or the sandbox can't be that release.
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
    found = {item for item in TABLE if release is not None and item.holds_for(release)}
    if bus is not None:
        found = found - {XMPP} if bus == "redis" else found | {XMPP}
    return frozenset((*found, *(known[name] for name in wanted)))


def classes_of(found: Iterable[Difference]) -> IdlClasses:
    """The classes of the IDL with these differences."""
    return idl_classes().changed(change for difference in found for change in difference.classes)
