"""The command's exit statuses, their meanings, and which error leads to which status."""

from __future__ import annotations

import click

from evergreen_groups.errors import (
    BusyError,
    ConfigurationError,
    DataError,
    DeadlineError,
    DiskError,
    EvergreenGroupsError,
    LoginRefusedError,
    NoSessionError,
    PermissionDeniedError,
    ServerError,
    TransportError,
    UnexpectedAnswerError,
)
from evergreen_groups.message import Message

DONE = 0
FAILED = 1
USAGE = 2
CONFIGURATION = 3
UNREACHABLE = 4
LOGIN = 5
PERMISSION = 6
INCOMPLETE = 7
UNSENT = 8
DEADLINE = 9
BLOCKED = 10
BUSY = 11
STALE = 12
UNWELL = 13
UNTRUSTED = 14
INTERRUPTED = 130
TERMINATED = 143

MEANINGS = {
    DONE: Message("done"),
    FAILED: Message("failed: something was not found, the ILS refused, or a file could not be written"),
    USAGE: Message("usage: an option or argument is wrong"),
    CONFIGURATION: Message("configuration: a setting is missing or not allowed"),
    UNREACHABLE: Message("the gateway could not be reached, or gave no usable answer"),
    LOGIN: Message("login refused, or the session was lost"),
    PERMISSION: Message("the account lacks a permission"),
    INCOMPLETE: Message("written, but incomplete: the account can't see everything about a listed group"),
    UNSENT: Message("written, but a mail could not be sent: it is queued and goes out with the next run"),
    DEADLINE: Message("not done before the deadline of the run"),
    BLOCKED: Message("checked: somebody is over the limit with own fines"),
    BUSY: Message("another run is under way"),
    STALE: Message("status: no run has ended in the time allowed, or the last one was killed"),
    UNWELL: Message("doctor: something is wrong that keeps the command from working"),
    UNTRUSTED: Message("nothing was written: an answer of the ILS can't be trusted"),
    INTERRUPTED: Message("interrupted (Ctrl-C)"),
    TERMINATED: Message("terminated (SIGTERM)"),
}

RETRYABLE = frozenset({UNREACHABLE, DEADLINE, UNTRUSTED})
"""The statuses of a report run that wrote nothing and may succeed later.

The systemd unit and the cron job retry only after these. Repeating a run that did write something would send its mails
twice, and compare the report with one from the same night.
"""

_BY_ERROR: tuple[tuple[type[EvergreenGroupsError], int], ...] = (
    (DiskError, FAILED),
    (ConfigurationError, CONFIGURATION),
    (LoginRefusedError, LOGIN),
    (NoSessionError, LOGIN),
    (PermissionDeniedError, PERMISSION),
    (TransportError, UNREACHABLE),
    (ServerError, UNREACHABLE),
    (UnexpectedAnswerError, UNTRUSTED),
    (DataError, UNTRUSTED),
    (DeadlineError, DEADLINE),
    (BusyError, BUSY),
)


def for_error(error: EvergreenGroupsError) -> int:
    """Return the exit status for an error."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), FAILED)


def for_interruption(error: EvergreenGroupsError) -> int:
    """Return the exit status for an error that interrupted changes. Some of them may have been written.

    So UNTRUSTED, which promises that nothing was written, becomes FAILED.
    """
    status = for_error(error)
    return FAILED if status == UNTRUSTED else status


def for_exception(error: BaseException) -> int:
    """Return the exit status for any exception that ended a command: an error, Ctrl-C, or a signal's ``SystemExit``."""
    match error:
        case EvergreenGroupsError():
            return for_error(error)
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED
        case SystemExit(code=int() as status):
            return status
        case click.ClickException(exit_code=status):
            return status
        case _:
            return FAILED


def help_text() -> str:
    r"""Return the exit statuses as a paragraph for ``--help``, one per line. ``\b`` keeps click from rewrapping it."""
    return "\n".join(["\b", "Exit status:", *(f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())])
