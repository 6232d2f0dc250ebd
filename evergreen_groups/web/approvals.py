"""Supervisors' approvals of changes: logins, and limits against guessed passwords."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import GatewayError, LoginRefusedError, NoSessionError, PermissionDeniedError
from evergreen_groups.gateway import Credentials
from evergreen_groups.ils import OrgUnits, permissions
from evergreen_groups.web.admission import Counters, RateLimit
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.web.admission import Caller
    from evergreen_groups.web.bodies import Approval

log = logging.getLogger("evergreen_groups.web")

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
            return RateLimit(counters, name, per_minute=per_minute, at_once=max(least, per_minute // 10))

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
