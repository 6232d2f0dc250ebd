"""Logging to standard error: one line for each event, as text for people or JSON for log collectors.

Names, barcodes, tokens and passwords must never be logged. Callers are responsible for that.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

import click

from evergreen_groups import errors, exit_status
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_PACKAGE = "evergreen_groups"
_CODE = "code"
_MOST_FRAMES = 30


class _OneLine(logging.Formatter):
    """Formats an event as text. Of an exception only type and place are shown, because its text may be confidential."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname} {record.name}: {_on_one_line(record.getMessage())}"
        origin = _origin(record)
        return f"{line} ({origin})" if origin else line


class _JsonLine(logging.Formatter):
    """Formats an event as a JSON object: ``time`` (ISO 8601, UTC), ``level``, ``logger`` and ``message``.

    ``code`` is added for errors of this package, and ``exception`` for exceptions.
    """

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _on_one_line(record.getMessage()),
        }
        more = {"code": getattr(record, _CODE, ""), "exception": _origin(record)}
        event |= {name: value for name, value in more.items() if value}
        return json.dumps(event, ensure_ascii=False)


class _StandardError(logging.StreamHandler):  # type: ignore[type-arg]  # the class takes no argument at run time
    """Writes to the current ``sys.stderr``, which tests and Click replace."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(*, verbosity: int, quiet: bool, log_format: str) -> None:
    """Set up logging: warnings by default, with ``verbosity`` 1 progress, with 2 every call; ``quiet``: only errors."""
    handler = _StandardError()
    handler.setFormatter(_JsonLine() if log_format == "json" else _OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_PACKAGE).setLevel(logging.ERROR if quiet else _LEVELS[min(verbosity, 2)])


def as_json() -> bool:
    """Whether events are written as JSON."""
    return any(isinstance(handler.formatter, _JsonLine) for handler in logging.getLogger().handlers)


def emit(message: str, *, error: bool = False, code: str = "") -> None:
    """Write a line on standard error, for an error or an important note.

    A ``Message`` is translated for people; programs get it in English, with the error's ``code``.
    """
    click.echo(format_line(message, error=error, code=code), err=True)


def emit_interruption(error: errors.EvergreenGroupsError) -> int:
    """Report an error that interrupted changes, and return the exit status."""
    emit(Message("{problem}; run the same command again to continue", values={"problem": error}), error=True)
    return exit_status.for_interruption(error)


def format_line(message: str, *, error: bool = False, code: str = "") -> str:
    """Return what :func:`emit` writes."""
    if isinstance(message, Message) and not as_json():
        message = gettext(message)
    line = _on_one_line(message)
    if not as_json():
        return f"evergreen-groups: {line}"
    level = logging.ERROR if error else logging.WARNING
    record = logging.LogRecord(_PACKAGE, level, __file__, 0, line, None, None)
    setattr(record, _CODE, code)
    return _JsonLine().format(record)


def report_bug(error: Exception) -> None:
    """Report a bug in one line, with a number that identifies its traceback in the log.

    The exception's text isn't written anywhere, because it may be about patrons. The log gets its type and the lines
    that led there: always with JSON events, with ``-v`` for text.
    """
    number = os.urandom(4).hex()
    text = Message(
        "unexpected error (report {number}): report it with the output of -v, or with the log",
        values={"number": number},
    )
    emit(text, error=True, code="unforeseen")
    level = logging.ERROR if as_json() else logging.INFO
    logging.getLogger(f"{_PACKAGE}.unforeseen").log(level, "report %s: %s", number, _exception_path(error))


def _exception_path(error: BaseException) -> str:
    """Return the types of an exception and its causes, each with the lines that led there, without their texts."""
    path, seen = [], set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = [
            f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in traceback.walk_tb(cause.__traceback__)
        ]
        path.append(f"{type(cause).__name__} at {' > '.join(frames[-_MOST_FRAMES:]) or '?'}")
        cause = cause.__cause__ or cause.__context__
    return "; from ".join(path)


def _on_one_line(message: str) -> str:
    """Return a message on one line, safe for terminals. It may quote a server."""
    from evergreen_groups.render import printable

    return printable(" ".join(message.split()))


def _origin(record: logging.LogRecord) -> str:
    """Return the type of an exception and the line that raised it."""
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    kind, _, trace = record.exc_info
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}" if trace is not None else ""
    return f"{kind.__name__}{place}"


log = logging.getLogger("evergreen_groups.service_manager")


def notify_ready(environ: Mapping[str, str], status: str) -> None:
    """Tell the service manager that started this process (sd_notify), if any, that requests are served."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifying:
            notifying.connect(address)
            notifying.sendall(f"READY=1\nSTATUS={status}".encode())
    except OSError as error:
        log.warning("can't notify the service manager (%s)", type(error).__name__)
