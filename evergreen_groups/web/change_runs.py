"""Applying plans for desks: a short one while the desk waits, a long one in a thread of its own that is asked after."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import (
    EvergreenGroupsError,
    GatewayError,
    LoginRefusedError,
    NoSessionError,
    PermissionDeniedError,
)
from evergreen_groups.gateway import Credentials
from evergreen_groups.ils import account_of_session, library_name
from evergreen_groups.message import Message
from evergreen_groups.web.admission import Counters, RateLimit
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.progress import Progress
    from evergreen_groups.web.admission import Caller
    from evergreen_groups.web.requests import Approval

log = logging.getLogger("evergreen_groups.web")

MOST_WAITED_FOR = 10
"""How many steps a desk waits for: each is three calls or so."""

AT_ONCE = 4
"""How many long changes are made at once."""

RETRY_SECONDS = 5.0

Apply = Callable[[Callable[[str], None], "Progress"], str]
"""Applies a plan: it gets what is to be called with the change's id once nothing can refuse it any more, and what
is to be called after each step; it gives the id."""


class _StoppingError(EvergreenGroupsError):
    """The service ends; the steps that are left aren't begun."""


class ChangeRuns:
    """The long changes that are being made by this process. Safe to share between threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="change")
        self._free = threading.Semaphore(AT_ONCE)
        self._stopping = threading.Event()
        self._beginning = threading.Lock()  # none is begun when the threads have been told to end

    def begin(self, apply: Apply, *, taken: Callable[[], object] = lambda: None) -> str:
        """Begin a long change, and give its id as soon as nothing can refuse it any more.

        ``taken`` is called once it is certain that ``apply`` will be.

        Raises:
            ProblemError: 503, too many are being made.
        """
        begun: Future[str] = Future()
        with self._beginning:
            if self._stopping.is_set() or not self._free.acquire(blocking=False):
                raise ProblemError(
                    503,
                    "Too many long changes are being made. Nothing was changed; try again in a moment.",
                    code="too-many-changes",
                    retry_after=RETRY_SECONDS,
                )
            taken()
            self._executor.submit(self._run, apply, begun)
        return begun.result()

    def finish(self) -> None:
        """Wait until all changes that were begun have been made; no other is begun."""
        self._executor.shutdown()

    def close(self) -> None:
        """Let each change finish the step that it is at, and begin no other."""
        with self._beginning:
            self._stopping.set()
        self._executor.shutdown()

    def _run(self, apply: Apply, begun: Future[str]) -> None:
        try:
            id = apply(begun.set_result, self._check)
            if not begun.done():  # it had been applied before
                begun.set_result(id)
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            elif not isinstance(error, _StoppingError):
                # What becomes of the change stands in the journal; this says only that something else went wrong.
                log.error("a long change ended early (%s)", type(error).__name__)  # noqa: TRY400 - patron data
        finally:
            self._free.release()

    def _check(self, doing: str, done: int, total: int | None = None) -> None:  # noqa: ARG002 - what Progress takes
        if self._stopping.is_set():
            raise _StoppingError("the service ends", code="service-ends")


FAILURES_A_MINUTE = 10
"""How many logins of one supervisor may be refused at one desk: two in twelve seconds, so the first mistake costs no
wait."""

TRIES_A_MINUTE = 60
"""How many logins of one supervisor there may be at one desk: six in six seconds. A desk scans twenty cards a minute,
and whoever guesses passwords in parallel gets six in before the first is refused."""

DESKS = 3
"""How many times as many there may be of one supervisor at all desks, and at one desk of all supervisors. One desk
alone can't use up what a supervisor has at the others."""

_REFUSAL = Message("A login was tried just before. Wait some seconds, then try again.")


class Approvals:
    """Logs supervisors in. Safe to share between threads."""

    def __init__(self, counters: Counters) -> None:
        def limits(name: str, per_minute: int) -> tuple[RateLimit, RateLimit]:
            """The limits of a supervisor at a desk, and of either alone."""
            return (
                RateLimit(counters, name, per_minute=per_minute, refusal=_REFUSAL, least=2),
                RateLimit(counters, f"{name}-wide", per_minute=DESKS * per_minute, refusal=_REFUSAL, least=2 * DESKS),
            )

        self._failures = limits("approval-failed", FAILURES_A_MINUTE)
        self._tries = limits("approval", TRIES_A_MINUTE)

    @contextmanager
    def approved(
        self, gateway: Gateway, clerk: Gateway, caller: Caller, approval: Approval
    ) -> Iterator[tuple[Gateway, int]]:
        """A gateway in the name of the supervisor for the block alone, and whose it is (``au.id``).

        ``gateway`` is the service's own, ``clerk`` acts for whoever asks.

        Raises:
            ProblemError: 403, the login was refused, owes a second factor, or lacks a permission, or the supervisor's
                session has ended, before anything was sent; 429, too many were tried.
            GatewayError: the ILS can't be reached.
        """
        keys = _keys(caller, approval)
        for limit, key in _each(self._failures, keys):
            limit.check(key)
        for limit, key in _each(self._tries, keys):
            limit.take(key)
        credentials = Credentials(
            username=approval.username,
            password=approval.password,
            workstation=_workstation(clerk, caller),
            login_type="temp",
        )
        with gateway.logged_in(credentials) as supervisor:
            try:
                user = self._user_of(supervisor, keys)
                if user == caller.user:
                    raise ProblemError(
                        403,
                        "That is your own account: somebody else has to approve the change.",
                        code="approval-by-oneself",
                    )
                log.info("a change is approved by another account")
                yield supervisor, user
            except (NoSessionError, LoginRefusedError):
                # Of the steps of a change that is being made the journal says it; here none has begun.
                raise _ended() from None
            except PermissionDeniedError as error:
                raise _lacking(error, clerk) from None

    def _user_of(self, supervisor: Gateway, keys: _Keys) -> int:
        """Whose session it is, which is when the login takes place; one that is refused counts."""
        try:
            return int(account_of_session(supervisor).id)
        except LoginRefusedError as error:
            for limit, key in _each(self._failures, keys):
                with suppress(ProblemError):  # counted meanwhile by somebody else's try
                    limit.take(key)
            raise _refused(error) from None  # what it says of the login stays out of the log


@dataclass(frozen=True, slots=True)
class _Keys:
    """What tries are counted by: the supervisor at the desk, and either alone."""

    together: str
    alone: tuple[str, str]


def _keys(caller: Caller, approval: Approval) -> _Keys:
    # A clerk may open any number of sessions without a workstation: together they count as one desk.
    desk = f"user {caller.user}" if caller.workstation is None else f"workstation {caller.workstation}"
    # By a digest: counters may be kept elsewhere, and a name needn't.
    supervisor = f"supervisor {sha256(approval.username.casefold().encode()).hexdigest()}"
    return _Keys(f"{supervisor} at {desk}", (supervisor, desk))


def _each(limits: tuple[RateLimit, RateLimit], keys: _Keys) -> Iterator[tuple[RateLimit, str]]:
    narrow, wide = limits
    yield narrow, keys.together
    for key in keys.alone:
        yield wide, key


def _workstation(clerk: Gateway, caller: Caller) -> str | None:
    """The name of the clerk's workstation, at which the supervisor logs in; None for a session without one."""
    if caller.workstation is None:
        return None
    try:
        record = clerk.pcrud.retrieve("aws", caller.workstation)
    except GatewayError:
        return None
    return None if record is None else str(record.name)


def _ended() -> ProblemError:
    return ProblemError(
        403,
        "The supervisor's session ended before the change was begun. Nothing was changed; your own session goes on.",
        advice="Have it approved once more.",
        code="approval-ended",
    )


def _lacking(error: PermissionDeniedError, clerk: Gateway) -> ProblemError:
    """What the supervisor's login lacks, and where: by the library's name, which the clerk can see."""
    return ProblemError(
        403,
        "The supervisor's login lacks the permission {permission} at {library}. Nothing was changed.",
        advice="Have the change approved by somebody who has it.",
        code="approval-permission-missing",
        values={"permission": error.permission, "library": library_name(clerk, error.org_unit) or error.org_unit},
    )


def _refused(error: LoginRefusedError) -> ProblemError:
    if error.code == "second-factor":
        return ProblemError(
            403,
            "That account must confirm logins with a second factor, which can't be done here. "
            "Have the change made where it is logged in.",
            code="approval-second-factor",
        )
    return ProblemError(403, "The supervisor could not log in. Nothing was changed.", code="approval-refused")
