"""The registry of methods, and calling them.

Modules register their methods with :func:`method`. :func:`dispatch` calls one and converts its results and exceptions
to payload items or a :class:`Failure`, like OpenSRF's C and Perl servers.

At the end are Perl's conversions of values, which methods use to treat odd parameters like Evergreen.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.database import IdlClasses, Row, Store, now
from evergreen_groups.sandbox.services import releases

if TYPE_CHECKING:
    from evergreen_groups.sandbox.services.releases import Difference
    from evergreen_groups.sandbox.services.sessions import SandboxSession, Sessions

_KNOWN = {
    "SUCCESS": (0, "Success"),
    "LOGIN_FAILED": (1000, "User login failed"),
    "NO_SESSION": (1001, "User login session has either timed out or does not exist"),
    "ACTOR_USER_NOT_FOUND": (1002, "Someone attempted to retrieve a user from the system and the user was not found"),
    "USERNAME_EXISTS": (1200, "The given username already exists in the database"),
    "PATRON_CARD_INACTIVE": (1216, "The patron's card is not active"),
    "PATRON_INACTIVE": (1217, "This account is marked as inactive"),
    "XACT_COLLISION": (1230, "The saved item has been edited by another user"),
    "WORKSTATION_NOT_FOUND": (1520, " Requested workstation object does not exist "),
    "ACTOR_USER_ADDRESS_NOT_FOUND": (1528, "Requested address was not found"),
    "MONEY_BILLABLE_TRANSACTION_SUMMARY_NOT_FOUND": (
        1532,
        "The requested money_billable_transaction_summary was not found",
    ),
    "ACTOR_USER_STANDING_PENALTY_NOT_FOUND": (1569, "The requested actor_user_standing_penalty was not found"),
    "ACTOR_ORG_UNIT_NOT_FOUND": (1586, "The requested actor_org_unit was not found"),
    "ACTOR_CARD_NOT_FOUND": (1589, "The requested actor_card was not found"),
    "MONEY_GROCERY_NOT_FOUND": (1599, "The requested money_grocery was not found"),
    "MONEY_BILLABLE_TRANSACTION_NOT_FOUND": (1601, "The requested money_billable_transaction was not found"),
    "PERMISSION_GRP_TREE_NOT_FOUND": (1613, "The requested permission_grp_tree was not found"),
    "MONEY_BILLING_NOT_FOUND": (1628, "The requested money_billing was not found"),
    "CANNOT_DELETE_PRIMARY_CARD": (1990, "Cannot delete the primary barcode"),
    "CANNOT_DELETE_ACTIVE_CARD": (1991, "Cannot delete an active barcode"),
    "BAD_PARAMS": (2000, "Invalid parameters were encountered in a method"),
    "DATABASE_UPDATE_FAILED": (2001, "The attempt to write to the DB failed"),
    "DATABASE_QUERY_FAILED": (2002, "The attempt to query to the DB failed"),
    "INTERNAL_SERVER_ERROR": (2003, "There was an internal server error"),
    "PERM_FAILURE": (5000, "Permission Denied"),
}


def c_event(textcode: str, **fields: Any) -> dict[str, Any]:
    """Return an event of a C service (``open-ils.auth``); ``fields`` adds for example ``payload``."""
    number, description = _KNOWN[textcode]
    return {
        "ilsevent": number,
        "textcode": textcode,
        "desc": description,
        "pid": os.getpid(),
        "stacktrace": "oils_auth.c:1",
        **fields,
    }


def perl_event(textcode: str, **fields: Any) -> dict[str, Any]:
    """Return an event of a Perl service; ``fields`` adds for example ``payload`` or ``ilsperm``."""
    number, description = _KNOWN.get(textcode, ("", ""))
    return {
        "ilsevent": str(number),
        "textcode": textcode,
        "desc": description,
        "pid": os.getpid(),
        "servertime": now().strftime("%a %b %e %H:%M:%S %Y"),
        "stacktrace": "OpenSRF/Application.pm:628",
        **fields,
    }


class EventAnswer(Exception):  # noqa: N818 - not every event is an error
    """Raise in a method to return an event; ``hash`` is the event itself."""

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(event["textcode"])
        self.hash = event


def no_session() -> EventAnswer:
    """Return the event for an unknown token; even in Perl services it comes from the C service."""
    return EventAnswer(c_event("NO_SESSION"))


def permission_failure(permission: str, org_unit: Any) -> EventAnswer:
    """Return the event for a missing permission at an org unit."""
    return EventAnswer(perl_event("PERM_FAILURE", ilsperm=permission, ilspermloc=org_unit))


PERL_PACKAGES = {
    "open-ils.actor": "OpenILS::Application::Actor",
    "open-ils.circ": "OpenILS::Application::Circ",
    "open-ils.fielder": "OpenILS::Application::Fielder",
    "open-ils.auth_mfa": "OpenILS::Application::MultiFactorAuth",
}
C_SERVICES = ("open-ils.auth", "open-ils.pcrud")


@dataclass(eq=False)  # not frozen: a context manager sets the traceback of what passes through it
class Failure(Exception):  # noqa: N818 - part of the protocol
    """A call without a result: ``status`` and ``debug`` of the response's body."""

    status: int
    debug: str


class Die(Exception):  # noqa: N818 - named for what the Perl code does
    """Raise in a Perl service's method where the real one dies: status 500, with the text in ``debug``."""


def method_exception(text: str, status: int) -> Failure:
    """Return a failure that the service itself reports."""
    return Failure(status, f"osrfMethodException : {text}")


@dataclass(frozen=True, slots=True)
class CallContext:
    """The first parameter of every method: state and circumstances of a call.

    ``api_name`` is the method's name as called, ``locale`` the requested language, ``differences`` those from the
    latest release, and ``ils_version`` the reported version. With ``sends_nulls``, nulls in a stream aren't dropped.
    """

    store: Store
    sessions: Sessions
    api_name: str = ""
    locale: str = "en-US"
    clock: Callable[[], datetime] = now
    differences: frozenset[Difference] = frozenset()
    ils_version: str = "HEAD"
    sends_nulls: bool = False

    @property
    def classes(self) -> IdlClasses:
        """The classes of the release's IDL."""
        return self.store.classes

    def session(self, token: Any) -> SandboxSession:
        """Return the session of a token.

        Raises:
            EventAnswer: NO_SESSION.
        """
        found = self.sessions.find(token)
        if found is None:
            raise no_session()
        return found

    def requestor(self, session: SandboxSession) -> Row:
        """Return the current row of the session's user."""
        row = self.store.row("au", session.user_id)
        if row is None:
            raise no_session()
        return row


@dataclass(frozen=True, slots=True)
class _Method:
    function: Callable[..., Any]
    streaming: bool
    atomic: bool


Registry = dict[tuple[str, str], _Method]
REGISTRY: Registry = {}


def method(
    service: str, name: str, *, authoritative: bool = False, streaming: bool = False, atomic: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a method of a service.

    The function gets the :class:`CallContext` and the call's parameters. Give all parameters defaults, because callers
    may omit them; excess parameters are dropped. ``authoritative`` also registers the name with ``.authoritative``. A
    ``streaming`` function yields its results; unless ``atomic`` is false, its ``.atomic`` form returns them as a list.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for full_name in (name, f"{name}.authoritative") if authoritative else (name,):
            REGISTRY[service, full_name] = _Method(function, streaming, atomic=False)
            if streaming and atomic:
                REGISTRY[service, f"{full_name}.atomic"] = _Method(function, streaming, atomic=True)
        return function

    return register


def _parameters(function: Callable[..., Any], given: Sequence[Any]) -> Sequence[Any]:
    accepted = list(inspect.signature(function).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in accepted):
        return given
    # The real services ignore excess parameters (errors-024).
    return given[: len(accepted)]


def _results(found: _Method, context: CallContext, given: Sequence[Any]) -> Iterator[Any]:
    try:
        outcome = found.function(context, *_parameters(found.function, given))
        if found.streaming:
            yield from outcome
        elif outcome is not None:
            yield outcome
    except EventAnswer as event:
        yield event.hash


def _as_perl(item: Any) -> Any:
    """Convert the numbers in a value like Perl does."""
    if isinstance(item, dict):
        return {key: _as_perl(value) for key, value in item.items()}
    return [_as_perl(value) for value in item] if isinstance(item, list) else _shortened(item)


def _shortened(item: Any) -> Any:
    """Convert a whole float to an integer, because Perl prints it without a decimal point, unless it is very large."""
    return int(item) if isinstance(item, float) and item.is_integer() and abs(item) < 1e15 else item


def dispatch(context: CallContext, service: str, given: Sequence[Any], level: int = 1) -> list[Any]:
    """Call the method ``context.api_name`` of a service and return the payload's items.

    Perl services drop nulls, C services send them. An integer returned by a Perl method becomes text, because Perl logs
    it; results of streams and ``.authoritative`` forms keep their type (``groups-036``, ``groups-039``).

    Raises:
        Failure: the service or method doesn't exist, or the call failed.
    """
    name = context.api_name
    known = service in PERL_PACKAGES or service in C_SERVICES
    if not known or any(service in difference.services for difference in context.differences):
        if releases.SILENT_BUS in context.differences:
            return []
        xmpp = releases.XMPP in context.differences
        reason = "Internal Server Error : Transport Error" if xmpp else "osrfServiceException : Service Not Found"
        raise Failure(404, reason)
    found = REGISTRY.get((service, name)) if _is_offered(context, name) else None
    if found is None or (level > 1 and service in PERL_PACKAGES):
        owner = PERL_PACKAGES.get(service, f"service {service}")
        raise method_exception(f"Method [{name}] not found for {owner}", 404)
    if service not in C_SERVICES:
        given = _as_perl(list(given))
    # Where the site has a replica, methods read from it, except for .authoritative forms.
    replica = None if ".authoritative" in name else context.store.replica
    try:
        with replica.serving() if replica else nullcontext():
            results = list(_results(found, context, given))
    except Failure as failure:
        if failure.status == HTTPStatus.REQUEST_TIMEOUT and releases.SILENT_BUS in context.differences:
            return []
        raise
    except Die as death:
        trace = f"[{time.time():.6f}.{time.time_ns()}], thread trace [1]"
        raise method_exception(f" *** Call to [{name}] failed for session {trace}:\n{death}\n\n", 500) from death
    if service in C_SERVICES:
        return [results] if found.atomic else results
    if not found.streaming and not name.endswith(".authoritative"):
        results = [str(item) if isinstance(item, int) else item for item in results]
    # Nulls are missing from the payload (errors-059, settings-004), and from the list of an .atomic form.
    with_nulls = context.sends_nulls and found.streaming and not found.atomic
    results = [_shortened(item) for item in results if item is not None or with_nulls]
    return [results] if found.atomic else results


def _is_offered(context: CallContext, name: str) -> bool:
    """Return whether the release has a method, provided that some release does."""
    if any(name.startswith(difference.absent) for difference in context.differences if difference.absent):
        return False
    return all(name not in item.only or item in context.differences for item in releases.TABLE)


def _echo(context: CallContext, *given: Any) -> Iterator[Any]:  # noqa: ARG001 - signature of a method
    """Return each parameter (``errors-058``)."""
    yield from given


def _echo_in_c(context: CallContext, *given: Any) -> Iterator[Any]:  # noqa: ARG001 - signature of a method
    """Return each parameter unchanged, or one null without parameters."""
    yield from given or (None,)


def _use_authoritative(context: CallContext) -> str:
    """Return Perl's true or false (releases-056; ``OpenILS/Application.pm``, use_authoritative)."""
    return "1" if releases.REPLICA in context.differences else ""


for _service in C_SERVICES:
    method(_service, "opensrf.system.echo", streaming=True)(_echo_in_c)
for _service in PERL_PACKAGES:
    method(_service, "opensrf.system.echo", streaming=True)(_echo)
    method(_service, "opensrf.system.time")(lambda context: int(context.clock().timestamp()))
    method(_service, "opensrf.open-ils.system.ils_version")(lambda context: context.ils_version)
    method(_service, "opensrf.open-ils.system.use_authoritative")(_use_authoritative)


MODULES = (
    "actor.circulation",
    "actor.org_units",
    "actor.patrons",
    "actor.penalties",
    "actor.permissions",
    "actor.search",
    "actor.update",
    "auth",
    "billing",
    "fielder",
    "pcrud",
)
"""Modules with methods; importing one registers its methods."""


def register() -> None:
    """Register the methods of all services."""
    for name in MODULES:
        import_module(f"evergreen_groups.sandbox.services.{name}")


_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def is_true(value: Any) -> bool:
    """Return whether Perl treats a value as true: all but null, false, 0, ``""`` and ``"0"``.

    >>> [is_true(value) for value in ("f", "0", "0.0", [], None)]
    [True, False, True, True, False]
    """
    if isinstance(value, list | dict):
        return True
    return bool(value) and value != "0"


def is_true_flag(value: Any) -> bool:
    """Return whether a database boolean is true (``AppUtils::is_true``): like Perl, but ``"f"`` is false."""
    return is_true(value) and str(value).lower() != "f"


def number(value: Any) -> Decimal:
    """Return the number at the start of a value; 0 if there is none.

    >>> number("12abc"), number("abc"), number(None)
    (Decimal('12'), Decimal('0'), Decimal('0'))
    """
    match = _NUMBER.match(text(value))
    return Decimal(match[1]) if match else Decimal(0)


def text(value: Any) -> str:
    """Convert a value to text like Perl: null is empty, true is 1, false is 0, numbers are as short as possible."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, list | dict):
        return f"{'ARRAY' if isinstance(value, list) else 'HASH'}(0x5581)"
    return str(value)


def as_compared(value: Any) -> Any:
    """Return a value as Perl sends it after comparing it with ``eq`` or ``ne``: integers have become text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def items(value: Any) -> list[Any]:
    """Return the items of a list, none for null.

    Raises:
        Die: the value is neither, like a Perl loop under ``use strict``.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise Die('Can\'t use that value as an ARRAY reference while "strict refs" in use.')
