"""What differs between Evergreen's releases and between sites, as one table.

The sandbox answers as the release of the exchanges it is compared with, unless it is told to behave otherwise. Each
difference has the id of the exchange that shows it, or the file of Evergreen's source and the release where it was
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox.database import ClassChange, IdlClasses, StoredLink, idl_classes
from evergreen_groups.sandbox.services.release_numbers import came_before

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise in older releases, or at some sites.

    ``until`` are the first releases without it: the last of them from its beginning, those before it by a patch; none
    where it depends on the ``site`` and not on the release. ``absent`` are the beginnings of names of methods that
    aren't there, ``classes`` what is otherwise in the IDL.
    """

    name: str
    evidence: str
    until: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    classes: tuple[ClassChange, ...] = ()

    @property
    def site(self) -> bool:
        """Whether it is the site's affair: its bus, its copies of the database."""
        return not self.until

    def holds_for(self, release: str) -> bool:
        """Whether a release (``"3.12"``, ``"3.15.2"``) behaves so; never for what is the site's affair."""
        return not self.site and came_before(release, self.until)


HIDDEN_ROWS_COUNT = Difference("hidden-rows-count", "3.12/releases-045", until=("3.16.0",))
"""Rows that the account may not see count against ``limit`` and ``offset``, and are then left out."""

KEY_MUST_BE_SELECTED = Difference("key-must-be-selected", "3.12/releases-019", until=("3.16.0",))
"""A ``select`` without the primary key ends in status 500 as soon as a row is found: each is fetched again by it."""

NO_COUNT = Difference("no-count", "3.12/releases-059", until=("3.16.0",), absent=("open-ils.pcrud.count.",))
"""pcrud has no ``count``."""

NO_OVERDUE_COUNT = Difference(
    "no-overdue-count", "groups-036", until=("3.17.0",), absent=("open-ils.actor.usergroup.members.overdue_count",)
)
"""A group's overdue items aren't counted."""

_RENEWALS = StoredLink("renewals", "has_many", "parent_circ", "circ", "")  # of which there was no field

FIELDS_OF_3_16 = Difference(
    "fields-of-3.16",
    "fm_IDL.xml of 3.16.0",
    until=("3.16.0",),
    classes=(
        ClassChange("acp", absent=("in_house_use",)),
        ClassChange("aou", absent=("staff_catalog_visible",)),
        ClassChange("au", absent=("guardian_email",)),
        ClassChange(
            "circ", absent=("renewal",), links=(StoredLink("renewals", "has_many", "parent_circ", "circ", ""),)
        ),
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
    classes=(ClassChange("acp", links=(StoredLink("last_captured_hold", "has_a", "current_copy", "alhr", ""),)),),
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

XMPP = Difference("xmpp", "3.12/releases-060", until=("3.17.0",))
"""The bus is XMPP: a service that isn't there is a transport error, not a service that wasn't found.

Evergreen's installation first speaks of Redis in 3.17; a site may have either with any release.
"""

REPLICA = Difference("replica", "releases-056")
"""Plain reads go to a copy of the database that is behind; ``.authoritative`` forms and writes see the original."""

TABLE = (
    *(HIDDEN_ROWS_COUNT, KEY_MUST_BE_SELECTED, NO_COUNT, NO_OVERDUE_COUNT),
    *(FIELDS_OF_3_16, FIELDS_OF_3_15, FIELDS_OF_3_14, ONE_LAST_CAPTURED_HOLD, NOTHING_REQUIRED),
    *(ONESELF_HIDDEN, PASSWORD_READ),
    *(XMPP, REPLICA),
)
BUSES = ("redis", "xmpp")


def differences(release: str | None, names: Iterable[str], bus: str | None = None) -> frozenset[Difference]:
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
