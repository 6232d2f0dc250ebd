"""What patrons owe themselves, at all libraries or at some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from itertools import chain

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING

Scope = frozenset[int] | None
"""The ids of the org units whose transactions count, None for those of everywhere."""

_SUMMARY = "open-ils.actor.user.fines.summary"

Transaction = tuple[int | None, Decimal]
"""Where an open transaction was made (an org unit's id), and what is owed on it, below zero for a credit."""


def within(transactions: Iterable[Transaction], scope: Scope) -> Decimal | None:
    """What is owed on the transactions within a scope, None where there are none.

    >>> within([(4, Decimal("3.00")), (5, Decimal("1.50"))], frozenset({4}))
    Decimal('3.00')
    """
    owed = [amount for place, amount in transactions if scope is None or place in scope]
    # None isn't nought: over no transaction at all the ILS's sum reaches no threshold, not even one of 0.00.
    return sum(owed, NOTHING) if owed else None


def read_own_fines(gateway: Gateway, ids: Collection[int], *, debtors_only: bool = False) -> dict[int, Decimal]:
    """What patrons owe anywhere (``mous``), by id; who has no open transaction is left out.

    So is the session's own user, unless they have VIEW_USER at their home library (``pcrud-056``). ``debtors_only``
    leaves out those whose open transactions come to nothing as well, which makes the answer for many patrons smaller.
    """
    fields = ("usr", "balance_owed")
    owes = {"balance_owed": {"<>": 0}} if debtors_only else None
    return dict(chain.from_iterable(gateway.pcrud.columns_by_values("mous", fields, "usr", sorted(ids), where=owes)))


def read_fines_of(gateway: Gateway, id: int, *, current: bool = False) -> Decimal | None:
    """What one patron owes anywhere, the session's own user too (``patrons-070``); None without an open transaction.

    ``current`` asks where changes are written.

    Raises:
        PermissionDeniedError: the session may not know, unless it is the patron's own.
    """
    # An empty payload, for a null result, where nothing is open (patrons-056).
    method = f"{_SUMMARY}.authoritative" if current else _SUMMARY
    result = gateway.call("open-ils.actor", method, TOKEN, id, expect="optional")
    if result.value is None:
        return None
    with result.understood(Message("a summary of fines")):
        summary = gateway.decode(result.value)
        owner, owed = summary.usr, summary.balance_owed
    if owner != id or not isinstance(owed, Decimal):
        raise result.unexpected(Message("a summary of this user's fines"))
    return owed


def read_fines_within(
    gateway: Gateway,
    scopes: Mapping[int, frozenset[int]],
    totals: Mapping[int, Decimal],
    *,
    leave_out_hidden: bool = False,
) -> dict[int, Decimal | None]:
    """What each patron owes within the scope of each, by patron's id; None for no open transaction there.

    ``totals`` are what those with an open transaction owe anywhere. Reads the open transactions (``mobts``) up to 3,000
    patrons at a time. ``leave_out_hidden`` leaves out patrons whose transactions the account can't see.

    Raises:
        DataError: somebody has open transactions of which the account may see none (VIEW_USER_TRANSACTIONS).
    """
    found: dict[int, list[Transaction]] = {id: [] for id in scopes}
    fields = ("usr", "billing_location", "balance_owed")
    for page in gateway.pcrud.columns_by_values("mobts", fields, "usr", sorted(scopes)):
        for id, place, amount in page:
            found[id].append((place, amount))
    # Hidden transactions are left out without a word (family-018): who has a total, be it 0.00, and shows none isn't
    # somebody without any. Unless the last one was closed between the two looks.
    suspects = [id for id in scopes if id in totals and not found[id]]
    hidden = read_own_fines(gateway, suspects) if suspects else {}
    if hidden and not leave_out_hidden:
        raise DataError(
            "the account can't see the transactions of everybody who has any, so what they owe at the "
            "libraries that count isn't known",
            advice="give the account VIEW_USER_TRANSACTIONS",
            code="transactions-hidden",
        )
    return {id: within(found[id], scope) for id, scope in scopes.items() if id not in hidden}
