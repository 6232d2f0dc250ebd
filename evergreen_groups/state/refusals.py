"""What a database engine says went wrong, as an error of ours that says what to do. Values of rows are in none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound, SQLAlchemyError

from evergreen_groups.errors import EvergreenGroupsError, StateError, StateUnavailableError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.own_files import NO_ROOM

ANEW = Message("move the database away to begin a new one, or put a backup in its place")
_SQLITE_ADVICE = {
    sqlite3.SQLITE_FULL: Message("make room on the disk"),
    sqlite3.SQLITE_IOERR: Message("make room on the disk, or see whether it is failing"),
    sqlite3.SQLITE_BUSY: Message(
        "another process holds the database: end that process (`fuser` names it), or run again later"
    ),
    sqlite3.SQLITE_LOCKED: Message(
        "another process holds the database: end that process (`fuser` names it), or run again later"
    ),
    sqlite3.SQLITE_READONLY: Message("allow this user to write the database and in its directory"),
    sqlite3.SQLITE_CANTOPEN: Message("allow this user to write the database and in its directory"),
}
_PRIMARY_CODE = 0xFF
_POSTGRESQL_ADVICE = {
    "08": Message("see whether PostgreSQL runs and can be reached from here"),
    "28": Message("look at the user, the password and the address in [state], and at the server's pg_hba.conf"),
    "3D": Message("make the database (createdb), or name another in [state]"),
    "42501": Message("let this user write there, or run `evergreen-groups state upgrade` as the owner"),
    "53": Message("make room, or allow more connections"),
    "57": Message("run again when PostgreSQL is up"),
    "57014": Message("run again; the server ends what takes longer than it allows"),
    "25006": Message("name the server that can be written to: this one only reads"),
    "40": Message("run again: others were writing the same"),
    "55P03": Message(
        "another session holds the database: end that session (`pg_stat_activity` names it), or run again later"
    ),
    "XX": Message("see PostgreSQL's log; where its data are damaged, put a backup in their place"),
}
_CODES_BY_TEXT = {
    "too many clients": "53",
    "connection slots": "53",
    "starting up": "57",
    "yet accepting connections": "57",
    "not accepting connections": "57",
    "shutting down": "57",
    "recovery mode": "57",
    'FATAL: database "': "3D",
    "permission denied": "28",
    "authentication": "28",
    "pg_hba.conf": "28",
    'FATAL: role "': "28",
    "no password supplied": "28",
    "SSL was required": "28",
    "certificate": "28",
    "is bad: invalid": "28",
    "invalid connection option": "28",
}
"""What a connection is refused with comes without a code: words of PostgreSQL's, with the code of such errors.

Anything else may pass. Of a server that speaks another language, that is true of all but a few."""
_PASSING = ("08", "40", "53", "55P03", "57", sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
"""Codes, or what they begin with, of what may be over when the same is tried again."""
_LONGEST = 300
_LOOK = Message("see PostgreSQL's log; `evergreen-groups state check` looks everything through")


class NoAnswerError(OSError):
    """A server was asked and gave no answer in time."""


@contextmanager
def errors_named(where: str) -> Iterator[None]:
    """Turn what goes wrong in the block into a StateError about the database ``where``.

    Only what asks the database belongs into it.

    Raises:
        StateError: the engine, or the disk under it, refused.
    """
    try:
        yield
    except EvergreenGroupsError:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:  # what a row became when it was read
        raise broken(where) from error
    except IntegrityError as error:
        raise StateError(
            "the database {where} refuses what contradicts something in it ({constraint})",
            advice="see whether another program writes there; `evergreen-groups state check` looks it through",
            code="database-contradiction",
            values={"where": where, "constraint": _constraint(error)},
        ) from error
    except (NoResultFound, MultipleResultsFound) as error:
        raise broken(where) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise unusable(where, error) from error


def unusable(where: str, error: BaseException) -> StateError:
    """The error for a database that can't be used, now or at all."""
    code, reason, advice = _code_reason_and_advice(getattr(error, "orig", None) or error)
    values = {"where": where, "reason": reason}
    if code in _PASSING or (isinstance(code, str) and code[:2] in _PASSING):
        return StateUnavailableError(
            "the database {where} can't be used ({reason})",
            advice=advice,
            code="database-unavailable",
            values=values,
        )
    return StateError(
        "the database {where} can't be used ({reason})", advice=advice, code="database-unusable", values=values
    )


def broken(where: str) -> StateError:
    """The error for a database in which something stands that was never written."""
    return StateError(
        "the database {where} holds something that was never written",
        advice=ANEW,
        code="database-broken",
        values={"where": where},
    )


def _code_reason_and_advice(error: BaseException) -> tuple[int | str, str, str]:
    if isinstance(error, NoAnswerError):
        return "08", str(error), _POSTGRESQL_ADVICE["08"]
    if isinstance(error, OSError):
        code = sqlite3.SQLITE_FULL if error.errno in NO_ROOM else sqlite3.SQLITE_CANTOPEN
        return code, system_reason(error), _SQLITE_ADVICE[code]
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        return code, str(error), _SQLITE_ADVICE.get(code, ANEW)
    state = getattr(error, "sqlstate", None) or ""
    # The server's other lines may quote a row; where it wasn't reached there are none.
    reason = getattr(getattr(error, "diag", None), "message_primary", None) or shorten(str(error), _LONGEST)
    if not state:
        state = next((code for words, code in _CODES_BY_TEXT.items() if words in reason), "08")
    advice = (_POSTGRESQL_ADVICE[begin] for begin in (state, state[:2]) if begin in _POSTGRESQL_ADVICE)
    return state, reason, next(advice, _LOOK)


def _constraint(error: IntegrityError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return str(diagnosis.constraint_name)
    return str(error.orig)  # SQLite names columns, and no values
