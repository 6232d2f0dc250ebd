"""Add debts to the sandbox, and patrons whom Evergreen blocks because they reach its own thresholds."""

from evergreen_groups.sandbox import Sandbox

AT_THRESHOLD, CHILD_AT_THRESHOLD = 1001, 1003
"""A patron who owes 5.00 at the threshold of 5.00, and a juvenile who owes 3.00 at one of 3.00."""
_CHILD, _CONSORTIUM, _HARBOR = 12, 1, 11


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


def put_at_thresholds(sandbox: Sandbox) -> None:
    """Set thresholds of 5.00, for children 3.00, and let two members of a family owe that and be blocked."""
    store = sandbox._store
    (everybody,) = store.rows("pgpt", {"penalty": 1})
    store.update("pgpt", everybody["id"], {"threshold": "5.00"})
    store.insert("pgpt", {"grp": _CHILD, "penalty": 1, "threshold": "3.00", "org_unit": _CONSORTIUM})
    for patron, owed in ((AT_THRESHOLD, "5.00"), (CHILD_AT_THRESHOLD, "3.00")):
        owe(sandbox, patron, (_HARBOR, owed))
        store.insert("ausp", {"usr": patron, "org_unit": _CONSORTIUM, "standing_penalty": 1})
