"""All that is kept as lines of JSON, for other programs and for whoever asks what is kept of them."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from sqlalchemy import select

from evergreen_groups.state.schema import leases, metadata

if TYPE_CHECKING:
    from evergreen_groups.state.database import Transactions

VERSION = 1
"""The version of the lines' form."""
_AT_ONCE = 1000


def export(transactions: Transactions, stream: TextIO) -> int:
    """Write a line for each row, ``{"table": …, …}``, in one state of everything; says how many.

    The first line is ``{"version": 1}``. Moments are ISO 8601 in UTC, amounts texts, mails in base64.

    Raises:
        StateError: the database can't be read.
    """
    count = 0
    with transactions.reading() as connection:
        print(json.dumps({"version": VERSION}), file=stream)
        for table in metadata.sorted_tables:
            if table is leases:
                continue
            order = table.primary_key.columns
            for row in (
                connection.execution_options(yield_per=_AT_ONCE).execute(select(table).order_by(*order)).mappings()
            ):
                values = {name: _plain(value) for name, value in row.items()}
                print(json.dumps({"table": table.name, **values}), file=stream)
                count += 1
    return count


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
