"""Whose session it is."""

from __future__ import annotations

from dataclasses import dataclass

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import TOKEN, Gateway, Record
from evergreen_groups.message import Message


def account_of_session(gateway: Gateway, *, prolong: bool = True) -> Record:
    """The account (``au``) that the session belongs to; one call.

    ``prolong`` False keeps the look from counting as use of the session (``oils_auth.c``, oilsAuthSessionRetrieve).

    Raises:
        UnexpectedAnswerError: the answer is no account.
    """
    more = () if prolong else (None, 1)
    result = gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN, *more)
    with result.understood(Message("an account")):
        account = gateway.decode(result.value)
    if not isinstance(account, Record) or account.class_id != "au" or not isinstance(account.id, int):
        raise result.unexpected(Message("an account"))
    return account


def workstation_of(account: Record) -> int | None:
    """The workstation of the account's session (``aws.id``), None for a session without one."""
    try:
        return int(account.wsid) if account.wsid else None
    except (TypeError, ValueError, AttributeError):
        return None


def library_of(account: Record) -> int:
    """The org unit at which the account of a session works (``aou.id``): its workstation's, or its home library.

    A session without a workstation has its home library there (``auth-015``), one with a workstation that one's
    library, as text (``auth-004``).

    Raises:
        DataError: the account says neither.
    """
    try:
        return int(account.ws_ou or account.home_ou)
    except (TypeError, ValueError, AttributeError):
        raise DataError("the ILS doesn't say where the account works", code="no-workplace") from None


@dataclass(frozen=True, slots=True)
class SessionAccount:
    """Whose session it is (``user``, an ``au.id``), and the org unit where they work (``library``, an ``aou.id``).

    ``home`` is their home library, ``workstation`` the session's (``aws.id``), None without one; ``group`` is the
    number of the patron group that they are in themselves (None: not said).
    """

    user: int
    library: int
    home: int
    workstation: int | None
    group: int | None = None

    @classmethod
    def read(cls, gateway: Gateway) -> SessionAccount:
        """Read it; one call, which doesn't prolong the session.

        Raises:
            DataError: the ILS doesn't say where they work.
            UnexpectedAnswerError: the answer is no account.
        """
        # The last argument keeps the look from counting as use: a panel that refreshes mustn't keep a session alive.
        account = account_of_session(gateway, prolong=False)
        library = library_of(account)
        home, group = account.home_ou, account.usrgroup
        return cls(
            account.id,
            library,
            home if isinstance(home, int) else library,
            workstation_of(account),
            group if isinstance(group, int) else None,
        )
