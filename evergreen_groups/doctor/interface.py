"""Checks of the server's interface: classes and fields, methods, and the query that adds up fines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.doctor.finding import CHECK_LOAD, CHECK_SERVER, TIMEOUT, Subject, failed, ok, warning
from evergreen_groups.errors import (
    DataError,
    EventError,
    MethodNotFoundError,
    ProtocolError,
    ServerError,
    TimedOutError,
    UnexpectedAnswerError,
    UnexplainedError,
)
from evergreen_groups.gateway import NO_TOKEN, GatewayKind, Pcrud
from evergreen_groups.groups import ACCOUNT_FIELDS, PATRON_FIELDS, GroupSearch, IdRange, contacts, search
from evergreen_groups.ils import permissions
from evergreen_groups.message import Message
from evergreen_groups.report import Criteria

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding
    from evergreen_groups.gateway import Gateway

_ACTOR, _AUTH, _PCRUD = "open-ils.actor", "open-ils.auth", "open-ils.pcrud"


@dataclass(frozen=True, slots=True)
class Method:
    """A method to probe, with parameters that have no effect.

    ``purpose`` says what needs the method. ``has_substitute`` says that servers without it are supported.
    """

    service: str
    name: str
    parameters: tuple[object, ...]
    purpose: Message
    has_substitute: bool = False


def _pcrud(kind: str, class_id: str, purpose: Message) -> Method:
    return Method(_PCRUD, f"open-ils.pcrud.{kind}.{class_id}.atomic", (NO_TOKEN, {"id": -1}, {"limit": 1}), purpose)


_LOGIN = Message("login")
_EVERYTHING = Message("everything")
_BILLS = Message("bills")
_PROFILES = Message("profiles")
_THRESHOLDS = Message("Evergreen's thresholds")
_ITEMS = Message("items out")
_HIDDEN = Message("hidden members")
_CHANGES = Message("changes")

METHODS = (
    Method(_AUTH, "open-ils.auth.login", ({"username": "-", "password": "-"},), _LOGIN),
    Method(_AUTH, "open-ils.auth.session.retrieve", (NO_TOKEN,), _LOGIN),
    Method(_AUTH, "open-ils.auth.session.delete", (NO_TOKEN,), _LOGIN),
    *(_pcrud("search", class_id, _EVERYTHING) for class_id in ("aou", "au", "mous", "ac", "ausp", "csp")),
    *(_pcrud("search", class_id, _BILLS) for class_id in ("mobts", "mb")),
    _pcrud("search", "aua", _CHANGES),
    _pcrud("search", "circ", _ITEMS),
    *(_pcrud("id_list", class_id, _EVERYTHING) for class_id in ("aou", "csp")),
    *(_pcrud(kind, "pgt", _PROFILES) for kind in ("search", "id_list")),
    *(_pcrud(kind, "pgpt", _THRESHOLDS) for kind in ("search", "id_list")),
    Method(_PCRUD, "open-ils.pcrud.count.aou", (NO_TOKEN, {"id": -1}), _EVERYTHING, has_substitute=True),
    Method(_PCRUD, "open-ils.pcrud.retrieve.aou", (NO_TOKEN, -1), _CHANGES),
    Method(
        _PCRUD, "open-ils.pcrud.retrieve.aws", (NO_TOKEN, -1), Message("a supervisor's approval"), has_substitute=True
    ),
    Method(_ACTOR, "open-ils.actor.user.has_work_perm_at.batch", (NO_TOKEN, []), _EVERYTHING),
    Method(_ACTOR, "open-ils.actor.user.perm.check.multi_org", (NO_TOKEN, -1, [], []), _EVERYTHING),
    Method(_ACTOR, "open-ils.actor.usergroup.members.retrieve", (NO_TOKEN, -1), _HIDDEN),
    Method(_ACTOR, "open-ils.actor.usergroup.members.balance_owed", (NO_TOKEN, -1), _HIDDEN),
    Method(_ACTOR, "open-ils.actor.user.checked_out.count", (NO_TOKEN, -1), _ITEMS),
    Method(_ACTOR, "open-ils.actor.ou_setting.ancestor_default.batch", (-1, [], NO_TOKEN), _ITEMS),
    Method(_ACTOR, "open-ils.actor.settings.value_for_all_orgs.atomic", (NO_TOKEN, ""), _EVERYTHING),
    Method(_ACTOR, "open-ils.actor.grp_penalty_threshold.ranged.retrieve.atomic", (NO_TOKEN, -1), _THRESHOLDS),
    Method(_ACTOR, "open-ils.actor.user.retrieve.authoritative", (NO_TOKEN, -1), _CHANGES),
    Method(_ACTOR, "open-ils.actor.user.fleshed.retrieve.authoritative", (NO_TOKEN, -1, []), _CHANGES),
    Method(_ACTOR, "open-ils.actor.usergroup.members.retrieve.authoritative", (NO_TOKEN, -1), _CHANGES),
    Method(_ACTOR, "opensrf.open-ils.system.use_authoritative", (), _EVERYTHING, has_substitute=True),
    Method(_ACTOR, "open-ils.actor.usergroup.members.balance_owed.authoritative", (NO_TOKEN, -1), _EVERYTHING),
    Method(_ACTOR, "open-ils.actor.user.fines.summary.authoritative", (NO_TOKEN, -1), _EVERYTHING),
    Method(_ACTOR, "open-ils.actor.user.fleshed.retrieve_by_barcode.authoritative", (NO_TOKEN, ""), _EVERYTHING),
    Method(_ACTOR, "open-ils.actor.patron.update", (NO_TOKEN, None), _CHANGES),
    Method(_ACTOR, "open-ils.actor.usergroup.new", (NO_TOKEN, -1), _CHANGES),
    Method(_ACTOR, "open-ils.actor.user.penalties.update_at_home", (NO_TOKEN, -1), _CHANGES),
)

FIELDS: dict[str, frozenset[str]] = {
    "au": frozenset(PATRON_FIELDS)
    | frozenset(ACCOUNT_FIELDS)
    | frozenset(contacts.CONTACT_FIELDS)
    | {"deleted", "passwd", "last_xact_id", "last_update_time", "standing_penalties"},
    "aou": frozenset({"id", "shortname", "name", "parent_ou"}),
    "ac": frozenset({"id", "barcode", "active", "usr"}),
    "mous": frozenset({"usr", "balance_owed"}),
    "mbts": frozenset({"usr", "xact_finish", "balance_owed"}),
    "mobts": frozenset(
        {
            *("id", "usr", "billing_location", "balance_owed", "total_owed", "total_paid", "xact_start", "xact_type"),
            *("last_billing_type", "last_payment_ts"),
        }
    ),
    "mb": frozenset({"id", "xact", "amount", "billing_type", "btype", "voided"}),
    "maa": frozenset({"id", "billing", "amount"}),
    "ausp": frozenset({"id", "usr", "standing_penalty", "org_unit", "staff", "set_date", "stop_date"}),
    "circ": frozenset(
        {"id", "usr", "due_date", "stop_fines", "fine_interval", "circ_lib", "checkin_time", "xact_finish"}
    ),
    "csp": frozenset({"id", "name", "block_list", "label"}),
    "pgt": frozenset({"id", "name", "parent", "application_perm"}),
    "pgpt": frozenset({"id", "org_unit", "grp", "penalty", "threshold"}),
    "aua": frozenset({"id", "usr", "street1", "post_code"}),
    "ppl": frozenset({"id", "code"}),
}
"""The fields that are read, selected or compared, by class."""


class Need(Enum):
    """When the account needs a permission."""

    ALWAYS = "always"
    ITEMS = "items"
    ILS_LIMITS = "limits of the ILS"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission, when it is needed, and for what. ``purpose`` is displayed after a colon."""

    name: str
    need: Need
    purpose: Message


VIEW_USER = Permission(permissions.VIEW_USER, Need.ALWAYS, Message("patrons and fines"))

PERMISSIONS = (
    Permission("VIEW_CIRCULATIONS", Need.ITEMS, _ITEMS),
    Permission("VIEW_GROUP_PENALTY_THRESHOLD", Need.ILS_LIMITS, _THRESHOLDS),
    Permission(permissions.VIEW_USER_TRANSACTIONS, Need.ILS_LIMITS, _BILLS),
    Permission("UPDATE_USER", Need.CHANGES, _CHANGES),
)
"""The other permissions with fixed names. The ``group_application`` permissions are named by the profiles (``pgt``)."""

DESK_PERMISSIONS = ("STAFF_LOGIN", permissions.VIEW_USER, "VIEW_CIRCULATIONS", "UPDATE_USER")
"""The permissions for viewing groups with their items and changing them at the desk, in addition to the profiles'."""


_RANGE = 3_000

_IDL_INCOMPLETE = failed("idl-incomplete", "missing: {missing}", CHECK_SERVER)
_METHODS_UNTOLD = warning(
    "methods-untold", "the gateway doesn't say whether these methods exist: {methods}", CHECK_SERVER
)
_METHOD_REPLACED = warning(
    "method-replaced",
    "{method} is missing, but can be replaced; needed for: {purpose}",
    "nothing to do; a newer Evergreen has the method",
)
_METHOD_NOT_OFFERED = failed("method-not-offered", "{method} is missing; needed for: {purpose}", CHECK_SERVER)
_NO_PATRONS = failed("no-patrons", "the account sees no patrons", "check at which libraries the account has VIEW_USER")
_QUERY_REFUSED = failed("query-refused", "Evergreen refuses the query that the report needs", CHECK_SERVER)
_QUERY_SLOW = warning("query-slow", "no answer within {seconds} s; the report uses smaller queries", CHECK_LOAD)


def idl(subject: Subject) -> Finding:
    """The server's IDL has all classes and fields that are used."""
    gateway = subject.gateway
    missing: list[str] = []
    for class_id, fields in FIELDS.items():
        try:
            known = gateway.idl(class_id)[class_id]
        except DataError:
            if not len(gateway.idl()):
                raise
            missing.append(class_id)
            continue
        missing += [f"{class_id}.{field}" for field in sorted(fields - known.positions.keys())]
    return _IDL_INCOMPLETE(missing=missing) if missing else ok("has all classes and fields that the program needs")


def methods(subject: Subject) -> Iterator[Finding]:
    """The server offers the methods that are used.

    Each method is called with an invalid token, so that it does nothing.
    """
    gateway = subject.gateway
    # Behind the Rust gateway, pcrud is asked nothing with an invalid token. The IDL check covers its classes there.
    wanted = [one for one in METHODS if gateway.kind is not GatewayKind.RUST or one.service != Pcrud.SERVICE]
    offered = list(zip(wanted, gateway.map(lambda method: _offered(gateway, method), wanted), strict=True))
    if untold := [method.name for method, there in offered if there is None]:
        yield _METHODS_UNTOLD(methods=untold)
    missing = [method for method, there in offered if there is False]
    for method in missing:
        if method.has_substitute:
            yield _METHOD_REPLACED(method=method.name, purpose=method.purpose)
        else:
            yield _METHOD_NOT_OFFERED(method=method.name, purpose=method.purpose)
    if not missing and not untold:
        yield ok("has all methods that the program needs")


def _offered(gateway: Gateway, method: Method) -> bool | None:
    """Return whether a method exists; None if the server doesn't say."""
    try:
        gateway.call(method.service, method.name, *method.parameters, expect="optional")
    except MethodNotFoundError:
        return False
    except UnexplainedError:
        return None
    except (EventError, ProtocolError):
        pass  # the method exists and refused its parameters
    return True


def pushdown(subject: Subject) -> Finding:
    """Evergreen's database can add up groups' fines, which the report and the audit depend on."""
    gateway = subject.gateway
    everywhere = len(subject.visible_orgs) == sum(1 for _unit in subject.org_units)
    asked = subject.settings.report
    of_items = {name: getattr(asked, name) for name in ("min_overdue", "min_lost", "overdue_days")}
    criteria = Criteria(min_total=asked.min_total, **of_items)
    groups = search.query_for(
        criteria.min_total,
        criteria.item_conditions,
        datetime.now(UTC),
        more_than_one=True,
        visible_orgs=() if everywhere else subject.visible_orgs,
    )
    highest = GroupSearch(gateway, groups).highest_group()
    if not highest:
        return _NO_PATRONS()
    # Take a range that certainly has groups, so that the database has real work to do.
    query = groups.members(IdRange(highest - _RANGE, highest))
    began = time.monotonic()
    try:
        gateway.pcrud.search_columns("au", ("id",), query, order_by="id", limit=_RANGE)
    except ServerError:
        return _QUERY_REFUSED()
    except (TimedOutError, UnexpectedAnswerError):
        return _QUERY_SLOW(seconds=TIMEOUT)
    return ok("fines added up in {milliseconds:,.0f} ms", milliseconds=(time.monotonic() - began) * 1000)
