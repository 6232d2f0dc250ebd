"""All that is kept as lines of JSON, for other programs and for whoever asks what is kept of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from sqlalchemy import select

from evergreen_groups.state.schema import leases, metadata

if TYPE_CHECKING:
    from evergreen_groups.state.database import Transactions

VERSION = 1
"""The version of the lines' form."""
_AT_ONCE = 100  # mails may be large


def export(transactions: Transactions, stream: TextIO) -> int:
    """Write a line for each row, ``{"table": …, …}``, in one state of everything; says how many.

    The first line is ``{"version": 1}``. Moments are ISO 8601 in UTC, amounts texts, mails in base64.

    Raises:
        StateError: the database can't be read.
        OSError: the stream can't be written.
    """
    count = 0
    print(json.dumps({"version": VERSION}), file=stream)
    # What goes wrong with the stream goes wrong here, and isn't taken for the database's.
    with closing(_rows(transactions)) as rows:
        for row in rows:
            print(json.dumps(row), file=stream)
            count += 1
    return count


def _rows(transactions: Transactions) -> Generator[dict[str, Any]]:
    """Each row with the name of its table."""
    with transactions.reading() as connection:
        for table in metadata.sorted_tables:
            if table is leases:
                continue
            order = table.primary_key.columns
            found = connection.execution_options(yield_per=_AT_ONCE).execute(select(table).order_by(*order))
            for row in found.mappings():
                yield {"table": table.name, **{name: _plain(value) for name, value in row.items()}}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes() | memoryview():
            return base64.b64encode(bytes(value)).decode("ascii")
        case _:
            return value
