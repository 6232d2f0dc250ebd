"""The command's exit statuses, their meanings, and which error leads to which status."""

from __future__ import annotations

import click

from evergreen_groups import errors
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
    FAILED: Message("failed: something wasn't found, Evergreen refused, or the disk is full"),
    USAGE: Message("wrong option or argument"),
    CONFIGURATION: Message("a setting is missing or not allowed, or a file can't be read or written"),
    UNREACHABLE: Message("the gateway can't be reached, or gives no usable answer"),
    LOGIN: Message("login refused, or session lost"),
    PERMISSION: Message("the account lacks a permission"),
    INCOMPLETE: Message("done, but incomplete: the account can't see everything about a group"),
    UNSENT: Message(
        "report written, but a mail couldn't be sent: it waits for the next run or, after a restore, for you"
    ),
    DEADLINE: Message("not finished before the deadline"),
    BLOCKED: Message("check: a patron is over the limit"),
    BUSY: Message("another run, or a change of the same patrons, is in progress"),
    STALE: Message("status: the last run is too old, or was killed"),
    UNWELL: Message("doctor: a check failed"),
    UNTRUSTED: Message("nothing was written: Evergreen's answers are incomplete or contradictory"),
    INTERRUPTED: Message("interrupted"),
    TERMINATED: Message("terminated"),
}

_BY_ERROR: tuple[tuple[type[errors.EvergreenGroupsError], int], ...] = (
    (errors.DiskError, FAILED),
    (errors.ConfigurationError, CONFIGURATION),
    (errors.LoginRefusedError, LOGIN),
    (errors.NoSessionError, LOGIN),
    (errors.PermissionDeniedError, PERMISSION),
    (errors.TransportError, UNREACHABLE),
    (errors.ServerError, UNREACHABLE),
    (errors.UnexpectedAnswerError, UNTRUSTED),
    (errors.DataError, UNTRUSTED),
    (errors.DeadlineError, DEADLINE),
    (errors.BusyError, BUSY),
)


def for_error(error: errors.EvergreenGroupsError) -> int:
    """Return the exit status for an error."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), FAILED)


def for_interruption(error: errors.EvergreenGroupsError) -> int:
    """Return the exit status for an error that interrupted changes. Some of them may have been written.

    So UNTRUSTED, which promises that nothing was written, becomes FAILED.
    """
    status = for_error(error)
    return FAILED if status == UNTRUSTED else status


def for_exception(error: BaseException) -> int:
    """Return the exit status for any exception that ended a command: an error, Ctrl-C, or a signal's ``SystemExit``."""
    match error:
        case errors.EvergreenGroupsError():
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
