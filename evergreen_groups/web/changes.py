"""Changes: applied or undone, with a supervisor's approval if needed, and in the background if they are long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import GatewayError, LoginRefusedError, NoSessionError, PermissionDeniedError
from evergreen_groups.gateway import Credentials
from evergreen_groups.ils import OrgUnits, permissions
from evergreen_groups.web.admission import Counters, RateLimit
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from evergreen_groups.changes import PlanRun, StoredStep
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.web.admission import Caller
    from evergreen_groups.web.bodies import Approval
    from evergreen_groups.web.service import DeskRequest

log = logging.getLogger("evergreen_groups.web")

MAX_AWAITED_STEPS = 10
"""Maximum number of steps for which a desk waits. A step takes about three calls."""

MAX_RUNNING = 4
"""Maximum number of long changes at a time."""

RETRY_SECONDS = 5.0

Begin = Callable[[], AbstractContextManager["PlanRun[StoredStep]"]]
"""Begins a change: the block gets it once it can no longer be refused."""


class _StoppingError(Exception):
    """The service is stopping, so the remaining steps aren't started."""


class ChangeRuns:
    """The long changes that this process is making. Safe to share between threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(MAX_RUNNING, thread_name_prefix="change")
        self._free = threading.Semaphore(MAX_RUNNING)
        self._stopping = threading.Event()
        self._beginning = threading.Lock()  # keeps a change from starting after the executor has shut down

    def begin(self, begin: Begin, *, on_accepted: Callable[[], object] = lambda: None) -> str:
        """Start a long change. Return its id as soon as the change can no longer be refused.

        ``on_accepted`` is called once it is certain that ``begin`` will run: unless too many changes are running.
        """
        begun: Future[str] = Future()
        with self._beginning:
            if self._stopping.is_set() or not self._free.acquire(blocking=False):
                raise ProblemError(
                    503,
                    "Too many long changes are in progress. Nothing was changed; try again in a moment.",
                    code="too-many-changes",
                    retry_after=RETRY_SECONDS,
                )
            on_accepted()
            self._executor.submit(self._run, begin, begun)
        return begun.result()

    def finish(self) -> None:
        """Wait for all running changes to finish. No further change can start."""
        self._executor.shutdown()

    def close(self) -> None:
        """Let each change finish its current step. No further change can start."""
        with self._beginning:
            self._stopping.set()
        self._executor.shutdown()

    def _run(self, begin: Begin, begun: Future[str]) -> None:
        try:
            with begin() as change:
                begun.set_result(change.id)
                change.apply(self._check)
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            elif not isinstance(error, _StoppingError):
                # The journal has the change's outcome. This log entry only says that the thread failed.
                log.error("a long change ended early (%s)", type(error).__name__)  # noqa: TRY400 - patron data
        finally:
            self._free.release()

    def _check(self, doing: str, done: int, total: int | None = None) -> None:  # noqa: ARG002 - Progress's signature
        if self._stopping.is_set():
            raise _StoppingError


FAILURES_A_MINUTE = 10
"""Refused logins allowed for one supervisor at one desk: two within twelve seconds, so a first typo costs no wait."""

TRIES_A_MINUTE = 60
"""Logins allowed for one supervisor at one desk: six within six seconds. A desk scans twenty cards a minute, and an
attacker who tries passwords in parallel gets six attempts before the first is refused."""

WIDE_FACTOR = 3
"""How many times these limits apply to one supervisor at all desks, and to one desk for all supervisors. A single desk
can't use up a supervisor's attempts at the others."""


class Approvals:
    """Logs in supervisors who approve a change. Safe to share between threads."""

    def __init__(self, counters: Counters) -> None:
        def limit(name: str, per_minute: int, least: int) -> RateLimit:
            return RateLimit(counters, name, per_minute=per_minute, least=least)

        self._failures = limit("approval-failed", FAILURES_A_MINUTE, 2)
        self._wide_failures = limit("approval-failed-wide", WIDE_FACTOR * FAILURES_A_MINUTE, 2 * WIDE_FACTOR)
        self._tries = limit("approval", TRIES_A_MINUTE, 2)
        self._wide_tries = limit("approval-wide", WIDE_FACTOR * TRIES_A_MINUTE, 2 * WIDE_FACTOR)

    @contextmanager
    def approved(
        self, gateway: Gateway, clerk: Gateway, caller: Caller, approval: Approval
    ) -> Iterator[tuple[Gateway, int]]:
        """Log the supervisor in for the block. Yields a gateway with that session, and the user's id (``au.id``).

        ``gateway`` is the service's own, ``clerk`` has the session of the caller. A ProblemError says that the login
        was refused, requires a second factor or lacks a permission, that there were too many attempts, or that the
        session ended before anything was sent.
        """
        # A clerk can open many sessions without a workstation. Count them as one desk.
        desk = f"user {caller.user}" if caller.workstation is None else f"workstation {caller.workstation}"
        # Hashed, because a shared store may be on another server and the user name shouldn't leave this one.
        name = f"supervisor {sha256(approval.username.casefold().encode()).hexdigest()}"
        both = f"{name} at {desk}"
        failures = ((self._failures, both), (self._wide_failures, name), (self._wide_failures, desk))
        for limit, key in failures:
            limit.check(key)
        for limit, key in ((self._tries, both), (self._wide_tries, name), (self._wide_tries, desk)):
            limit.take(key)
        workstation = None
        if caller.workstation is not None:
            with suppress(GatewayError):
                record = clerk.pcrud.retrieve("aws", caller.workstation)
                workstation = None if record is None else str(record.name)
        credentials = Credentials(
            username=approval.username, password=approval.password, workstation=workstation, login_type="temp"
        )
        with gateway.logged_in(credentials) as supervisor:
            try:
                try:
                    user = int(permissions.account_of_session(supervisor).id)  # logs in, as the first call
                except LoginRefusedError as error:
                    for limit, key in failures:
                        with suppress(ProblemError):  # a parallel attempt may have reached the limit
                            limit.take(key)
                    # "from None" keeps the login's details out of the log.
                    if error.code == "second-factor":
                        raise ProblemError(
                            403,
                            "This login needs a second factor, so it can't approve here. Make the change while "
                            "logged in as the supervisor.",
                            code="approval-second-factor",
                        ) from None
                    raise ProblemError(
                        403,
                        "The supervisor couldn't log in. Check the user name and password. Nothing was changed.",
                        code="approval-refused",
                    ) from None
                if user == caller.user:
                    raise ProblemError(403, "You can't approve your own change.", code="approval-by-oneself")
                log.info("a change is approved by another account")
                yield supervisor, user
            except (NoSessionError, LoginRefusedError):
                # Raised only before the first step; an error in a later step is recorded in the journal.
                raise ProblemError(
                    403,
                    "the supervisor's session ended before this change",
                    advice="have it approved again",
                    code="approval-ended",
                ) from None
            except PermissionDeniedError as error:
                library = (
                    OrgUnits.shortname_for_message(clerk, error.org_unit) or error.org_unit
                )  # as the clerk sees it
                raise ProblemError(
                    403,
                    "the supervisor's login lacks the permission {permission} at {library}",
                    advice="have someone with this permission approve it",
                    code="approval-permission-missing",
                    values={"permission": error.permission, "library": library},
                ) from None


def apply_plan(desk: DeskRequest, plan: str, key: str, approval: Approval | None) -> str:
    """Apply a plan, with a supervisor's approval if the request has one. Return the change's id.

    A long change continues in the background. A plan that was already applied needs neither approval nor a thread.
    """
    running, found = desk.service, desk.client.changes.find(plan)
    steps = len(found.steps)
    if found.key is not None and steps > MAX_AWAITED_STEPS:
        return desk.client.changes.apply(plan, key, timeout=0.0)
    if found.key is not None or (approval is None and steps <= MAX_AWAITED_STEPS):
        return desk.client.changes.apply(plan, key)
    if approval is None:
        without_deadline = running.client_for(desk.caller, desk.gateway)
        return running.change_runs.begin(lambda: without_deadline.changes.begin(plan, key))
    with ExitStack() as stack:
        # A long change keeps the supervisor's session beyond this block.
        supervisor, user = stack.enter_context(
            running.approvals.approved(running.gateway, desk.client.gateway, desk.caller, approval)
        )
        if steps <= MAX_AWAITED_STEPS:
            with_deadline = supervisor.within(running.settings.serve.timeout)
            return running.client_for(desk.caller, with_deadline, approved_by=user).changes.apply(plan, key)
        client, session = running.client_for(desk.caller, supervisor, approved_by=user), ExitStack()

        @contextmanager
        def begun() -> Iterator[PlanRun[StoredStep]]:
            with session, client.changes.begin(plan, key) as change:
                yield change

        # If the change can't start, this block ends the session. Once started, the thread does.
        return running.change_runs.begin(begun, on_accepted=lambda: session.push(stack.pop_all()))


def undo_change(desk: DeskRequest, change: str, key: str) -> str:
    """Undo a change. Return the id of the new change that does it. A long one continues in the background."""
    if len(desk.client.changes.entry(change).steps) <= MAX_AWAITED_STEPS:
        return desk.client.changes.undo(change, key)
    without_deadline = desk.service.client_for(desk.caller, desk.gateway)
    return desk.service.change_runs.begin(lambda: without_deadline.changes.begin_undo(change, key))
