"""A supervisor approves one change with their own login, as the staff client's *Change Operator* lets them.

The session is one of Evergreen's type ``temp``, at the clerk's workstation, and is ended after the change. The password
goes to the ILS and nowhere else.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import GatewayError, LoginRefusedError, NoSessionError
from evergreen_groups.gateway import Credentials
from evergreen_groups.ils import account_of_session
from evergreen_groups.message import Message
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.rate_limits import Counters, RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.web.authorization import Caller
    from evergreen_groups.web.plan_bodies import Approval

log = logging.getLogger("evergreen_groups.web")

FAILURES_A_MINUTE = 10
"""How many logins each clerk may have refused, and how many may be for each supervisor: by tenths, so the next one
follows six seconds later."""

TRIES_A_MINUTE = 60
"""How many logins there may be at all, by tenths as well: a desk scans twenty cards a minute, and who guesses passwords
side by side gets six of them in before the first is refused."""

_REFUSAL = Message("A login was tried just before. Wait some seconds, then try again.")


class Approvals:
    """Logs supervisors in. Safe to share between threads."""

    def __init__(self, counters: Counters) -> None:
        self._failures = RateLimit(counters, "approval-failed", per_minute=FAILURES_A_MINUTE, refusal=_REFUSAL)
        self._tries = RateLimit(counters, "approval", per_minute=TRIES_A_MINUTE, refusal=_REFUSAL)

    @contextmanager
    def approved(
        self, gateway: Gateway, clerk: Gateway, caller: Caller, approval: Approval
    ) -> Iterator[tuple[Gateway, int]]:
        """A gateway in the name of the supervisor for the block alone, and whose it is (``au.id``).

        ``gateway`` is the service's own, ``clerk`` acts for whoever asks.

        Raises:
            ProblemError: 403, the login was refused, or owes a second factor, or the supervisor's session has ended
                before anything was sent; 429, too many were tried.
            GatewayError: the ILS can't be reached.
        """
        # By a digest: counters may be kept elsewhere, and a name needn't.
        name = sha256(approval.username.casefold().encode()).hexdigest()
        keys = (f"clerk {caller.user}", f"supervisor {name}")
        for key in keys:
            self._failures.check(key)
        for key in keys:
            self._tries.take(key)
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

    def _user_of(self, supervisor: Gateway, keys: Iterable[str]) -> int:
        """Whose session it is, which is when the login takes place; one that is refused counts."""
        try:
            return int(account_of_session(supervisor).id)
        except LoginRefusedError as error:
            for key in keys:
                with suppress(ProblemError):  # counted meanwhile by somebody else's try
                    self._failures.take(key)
            raise _refused(error) from None  # what it says of the login stays out of the log


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


def _refused(error: LoginRefusedError) -> ProblemError:
    if error.code == "second-factor":
        return ProblemError(
            403,
            "That account must confirm logins with a second factor, which can't be done here. "
            "Have the change made where it is logged in.",
            code="approval-second-factor",
        )
    return ProblemError(403, "The supervisor could not log in. Nothing was changed.", code="approval-refused")
