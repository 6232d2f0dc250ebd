"""Add debts to the sandbox."""

from __future__ import annotations

from evergreen_groups.sandbox import Sandbox


def owe(sandbox: Sandbox, user: int, *fines: tuple[int, str]) -> None:
    """Give a patron these fines (library, amount) and no others."""
    store = sandbox._store
    with store.transaction() as connection:
        for table in ("mg", "circ", "mbts"):
            connection.execute(f"DELETE FROM {table} WHERE usr = ?", [user])
        for place, amount in fines:
            started = {"usr": user, "xact_start": "2026-10-01T10:00:00+0000"}
            new_id = store.insert("mg", {**started, "billing_location": place})
            summary = {"total_owed": amount, "total_paid": "0.00", "balance_owed": amount, "xact_type": "grocery"}
            store.insert("mbts", {"id": new_id, **summary, **started})
