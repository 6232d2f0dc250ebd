"""Mails that wait to be sent, in the database: whole or not there, and gone once the mail server has taken them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from evergreen_groups.state import believed_now, schema

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions


_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """A mail that waits: its headers, and all of it as it is sent."""

    headers: Message[Any, Any]
    content: bytes


class Outbox:
    """The mails that wait. Only one run at a time may send them: that which holds the lease for making the report."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def __len__(self) -> int:
        """How many mails wait.

        Raises:
            StateError: the database can't be used; so do all the others.
        """
        if not self._transactions.is_there:
            return 0
        with self._transactions.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(schema.mails)).scalar_one())

    def numbers(self) -> list[int]:
        """The numbers of the mails that wait, the oldest first."""
        with self._transactions.reading() as connection:
            return list(
                connection.execute(
                    select(schema.mails.c.id).order_by(schema.mails.c.written_at, schema.mails.c.id)
                ).scalars()
            )

    def add(self, messages: Iterable[EmailMessage], within: Connection | None = None) -> None:
        """Keep mails, all of them or none; one with the same Message-ID takes the place of the former.

        ``within`` is the connection of a transaction that also writes other things.
        """
        mails = schema.mails
        with self._transactions.writing() if within is None else nullcontext(within) as connection:
            for message in messages:  # one after the other: each may have a spreadsheet of a dozen megabytes
                row = {
                    "message_id": str(message["Message-ID"]),
                    "written_at": message["Date"].datetime,
                    "content": message.as_bytes(policy=SMTP),
                }
                connection.execute(delete(mails).where(mails.c.message_id == row["message_id"]))
                connection.execute(mails.insert(), row)

    def read(self, number: int) -> WaitingMail | None:
        """A mail that waits; None where it doesn't any more."""
        with self._transactions.reading() as connection:
            content = connection.execute(
                select(schema.mails.c.content).where(schema.mails.c.id == number)
            ).scalar_one_or_none()
        if content is None:
            return None
        head = content[: content.find(_END_OF_HEAD)]
        return WaitingMail(message_from_bytes(head, policy=SMTP), content)

    def forget(self, number: int) -> None:
        """Remove a mail that was sent."""
        with self._transactions.writing() as connection:
            connection.execute(delete(schema.mails).where(schema.mails.c.id == number))

    def drop_older(self, days: int) -> int:
        """Remove mails that have waited for more than ``days``; say how many.

        None is removed on the word of a clock that is far ahead of the last run's.
        """
        with self._transactions.writing() as connection:
            too_old = believed_now(connection, self._transactions.now()) - timedelta(days=days)
            return connection.execute(delete(schema.mails).where(schema.mails.c.written_at < too_old)).rowcount
