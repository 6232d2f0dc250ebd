"""The methods that the sandbox's services offer, and how a call is run.

A module registers its methods with :func:`method`; :func:`dispatch` finds one and turns what it returns, yields or
raises into payload items or a :class:`Failure`, as OpenSRF's C and Perl servers do.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.database import IdlClasses, Row, Store, now
from evergreen_groups.sandbox.services import permissions, releases

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
    """An event of a service written in C (``open-ils.auth``); ``fields`` such as ``payload`` are added to it."""
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
    """An event of a service written in Perl; ``fields`` such as ``payload`` or ``ilsperm`` are added to it."""
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


class EventAnswer(Exception):  # noqa: N818 - an event need not be an error
    """Raised by a method to answer with an event; ``hash`` is the event itself."""

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(event["textcode"])
        self.hash = event


def no_session() -> EventAnswer:
    """The event for a token that no session has; it comes from the C service even through a Perl one."""
    return EventAnswer(c_event("NO_SESSION"))


def permission_failure(permission: str, org_unit: Any) -> EventAnswer:
    """The event for a permission that is missing at an org unit."""
    return EventAnswer(perl_event("PERM_FAILURE", ilsperm=permission, ilspermloc=org_unit))


PERL_PACKAGES = {
    "open-ils.actor": "OpenILS::Application::Actor",
    "open-ils.circ": "OpenILS::Application::Circ",
    "open-ils.fielder": "OpenILS::Application::Fielder",
    "open-ils.auth_mfa": "OpenILS::Application::MultiFactorAuth",
}
C_SERVICES = ("open-ils.auth", "open-ils.pcrud")


@dataclass(eq=False)  # not frozen: a context manager sets the traceback of what passes through it
class Failure(Exception):  # noqa: N818 - the body's status tells how it ended, not an error of ours
    """A call that ended without a result: the body's ``status`` and ``debug`` text."""

    status: int
    debug: str


class Die(Exception):  # noqa: N818 - named for what the Perl code does
    """Raised by a method of a Perl service where the real one dies: status 500, with the text in ``debug``."""


def method_exception(text: str, status: int) -> Failure:
    """A failure that a service itself reports."""
    return Failure(status, f"osrfMethodException : {text}")


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a method works with.

    ``api_name`` is the name it was called by, ``locale`` the language asked for, ``differences`` what is otherwise than
    in the latest release, ``ils_version`` what the release calls itself. With ``sends_nulls`` the gateway sends the
    nulls of a stream.
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
        """The session of a token.

        Raises:
            Event: NO_SESSION.
        """
        found = self.sessions.find(token)
        if found is None:
            raise no_session()
        return found

    def requestor(self, session: SandboxSession) -> Row:
        """The user of a session, fresh from the database."""
        row = self.store.row("au", session.user_id)
        if row is None:
            raise no_session()
        return row

    def allowed(self, session: SandboxSession, permission: str, org_unit: Any = None) -> bool:
        """Whether the session's user has a permission at an org unit (its work org unit where none is given)."""
        place = session.work_org if org_unit is None else org_unit
        try:
            place = int(place)
        except (TypeError, ValueError):
            place = None
        return permissions.allowed(self.store, session.user_id, permission, place)

    def check(self, session: SandboxSession, permission: str, org_unit: Any = None) -> None:
        """Insist on a permission.

        Raises:
            Event: PERM_FAILURE, which names the org unit as it was given (the work org unit as text, ``errors-057``).
        """
        if not self.allowed(session, permission, org_unit):
            raise permission_failure(permission, str(session.work_org) if org_unit is None else org_unit)


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

    It is called with the :class:`CallContext` and the parameters of the call; those that the caller leaves out must
    have defaults, those beyond the function's own are dropped. ``authoritative`` adds the name with ``.authoritative``.
    A ``streaming`` function yields its results, and has an ``.atomic`` form that sends them as one list (unless
    ``atomic`` is false).
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
    # The real services pass over what is too much (errors-024).
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
    """A value whose numbers have been through Perl."""
    if isinstance(item, dict):
        return {key: _as_perl(value) for key, value in item.items()}
    return [_as_perl(value) for value in item] if isinstance(item, list) else _shortened(item)


def _shortened(item: Any) -> Any:
    """A number as Perl prints it: nothing behind the point where there is nothing to say."""
    return int(item) if isinstance(item, float) and item.is_integer() else item


def dispatch(context: CallContext, service: str, given: Sequence[Any], level: int = 1) -> list[Any]:
    """Call the method ``context.api_name`` of a service and return the payload's items.

    The Perl services drop nulls, the C services send them. A whole number that a Perl method returns becomes text on
    its way (it is written into the log); what a stream or an ``.authoritative`` form sends stays as it is
    (``groups-036``, ``groups-039``).

    Raises:
        Failure: no such service or method, or the call broke down.
    """
    name = context.api_name
    if not _is_served(context, service):
        if releases.SILENT_BUS in context.differences:
            return []
        raise Failure(404, _no_service(context))
    found = REGISTRY.get((service, name)) if _is_offered(context, name) else None
    if found is None or (level > 1 and service in PERL_PACKAGES):
        owner = PERL_PACKAGES.get(service, f"service {service}")
        raise method_exception(f"Method [{name}] not found for {owner}", 404)
    try:
        with _reading(context):
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
    # A null leaves no trace in the payload (errors-059, settings-004), nor in the list of an .atomic form.
    with_nulls = context.sends_nulls and found.streaming and not found.atomic
    results = [_shortened(item) for item in results if item is not None or with_nulls]
    return [results] if found.atomic else results


def _is_served(context: CallContext, service: str) -> bool:
    known = service in PERL_PACKAGES or service in C_SERVICES
    return known and not any(service in difference.services for difference in context.differences)


def _is_offered(context: CallContext, name: str) -> bool:
    """Whether the release has the method, if any has."""
    if any(name.startswith(difference.absent) for difference in context.differences if difference.absent):
        return False
    return all(name not in item.only or item in context.differences for item in releases.TABLE)


def _no_service(context: CallContext) -> str:
    if releases.XMPP in context.differences:
        return "Internal Server Error : Transport Error"
    return "osrfServiceException : Service Not Found"


def _reading(context: CallContext) -> AbstractContextManager[None]:
    """Where a method reads: a plain one from the copy of the database, where the site has one."""
    replica = context.store.replica
    if replica is None or ".authoritative" in context.api_name:
        return nullcontext()
    return replica.serving()


def _echo(context: CallContext, *given: Any) -> Iterator[Any]:  # noqa: ARG001 - the interface of a method
    """Send back each parameter (``errors-058``)."""
    yield from map(_as_perl, given)


def _echo_anything(context: CallContext, *given: Any) -> Iterator[Any]:  # noqa: ARG001 - the interface of a method
    """The same by the C services, which send back a null where there is none."""
    yield from given or (None,)


def _server_time(context: CallContext) -> int:
    """The server's time in seconds since 1970; the Perl services alone tell it."""
    return int(context.clock().timestamp())


for _service in C_SERVICES:
    method(_service, "opensrf.system.echo", streaming=True)(_echo_anything)
for _service in PERL_PACKAGES:
    method(_service, "opensrf.system.echo", streaming=True)(_echo)
    method(_service, "opensrf.system.time")(_server_time)


def _register_versions() -> None:
    def version(context: CallContext) -> str:
        return context.ils_version

    def use_authoritative(context: CallContext) -> str:
        # Perl's truths, as they are sent (releases-056; ``OpenILS/Application.pm``, use_authoritative).
        return "1" if releases.REPLICA in context.differences else ""

    for service in PERL_PACKAGES:
        method(service, "opensrf.open-ils.system.ils_version")(version)
        method(service, "opensrf.open-ils.system.use_authoritative")(use_authoritative)


_register_versions()


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
"""The modules whose methods the sandbox offers; importing one registers its methods."""


def register() -> None:
    """Register the methods of every service."""
    for name in MODULES:
        import_module(f"evergreen_groups.sandbox.services.{name}")


_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def is_true(value: Any) -> bool:
    """Perl's truth: null, false, nought, ``""`` and ``"0"`` are false, all else is true.

    >>> [is_true(value) for value in ("f", "0", "0.0", [], None)]
    [True, False, True, True, False]
    """
    if isinstance(value, list | dict):
        return True
    return bool(value) and value != "0"


def is_true_flag(value: Any) -> bool:
    """The truth of a database's boolean (``AppUtils::is_true``): as in Perl, but ``"f"`` is false."""
    return is_true(value) and str(value).lower() != "f"


def number(value: Any) -> Decimal:
    """The number at the beginning of a value; 0 where there is none.

    >>> number("12abc"), number("abc"), number(None)
    (Decimal('12'), Decimal('0'), Decimal('0'))
    """
    match = _NUMBER.match(text(value))
    return Decimal(match[1]) if match else Decimal(0)


def text(value: Any) -> str:
    """The text of a scalar: null is empty, true is 1, false is 0, numbers as short as they go."""
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
    """A value after ``eq`` or ``ne`` has looked at it: whole numbers have become text, all else is as before."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def items(value: Any) -> list[Any]:
    """What a loop over a value meets: nothing for null, the items of a list.

    Raises:
        Die: it is neither, as under ``use strict``.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise Die('Can\'t use that value as an ARRAY reference while "strict refs" in use.')
