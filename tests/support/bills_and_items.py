"""Bills and items as varied as in a real library; the sandbox's built-in families owe for one thing only."""

from evergreen_groups.sandbox import Sandbox

HARBOR, ELM = 11, 22
_SINCE = "2026-09-01T10:00:00+0000"


def bill(
    sandbox: Sandbox,
    patron: int,
    billed: str,
    paid: str = "0.00",
    *,
    kind: str = "Photocopies",
    library: int = HARBOR,
    since: str = _SINCE,
) -> int:
    with sandbox._store.transaction():
        id = sandbox._store.insert("mg", {"usr": patron, "billing_location": library, "xact_start": since})
        _summary(sandbox, id, patron, "grocery", kind, billed, paid, since)
    return id


def lend(
    sandbox: Sandbox,
    patron: int,
    due: str,
    *,
    copy: int = 9001,
    library: int = HARBOR,
    state: str | None = None,
    returned: bool = False,
    renewals: int = 0,
    kind: str = "Overdue Materials",
    billed: str = "0.00",
    paid: str = "0.00",
) -> int:
    """Add a circulation, out or returned, with its billings, and return its id."""
    values = {
        "usr": patron,
        "circ_lib": library,
        "target_copy": copy,
        "due_date": f"{due}T23:59:59+0000",
        "xact_start": _SINCE,
        "create_time": _SINCE,
        "stop_fines": state,
        "checkin_time": "2026-10-01T10:00:00+0000" if returned else None,
        "fine_interval": "1 day",
        "duration": "14 days",
        "grace_period": "00:00:00",
        "renewal_remaining": renewals,
    }
    with sandbox._store.transaction():
        id = sandbox._store.insert("circ", values)
        _summary(sandbox, id, patron, "circulation", kind if billed != "0.00" else None, billed, paid, _SINCE)
    return id


def hold(sandbox: Sandbox, patron: int, until: str | None, *, copy: int = 9001, library: int = HARBOR) -> int:
    """Add a hold that is ready for pickup, and return its id."""
    values = {
        "usr": patron,
        "requestor": patron,
        "hold_type": "C",
        "target": copy,
        "current_copy": copy,
        "pickup_lib": library,
        "current_shelf_lib": library,
        "request_time": _SINCE,
        "capture_time": _SINCE,
        "shelf_time": _SINCE,
        "shelf_expire_time": until and f"{until}T23:59:59+0000",
        "frozen": "f",
    }
    with sandbox._store.transaction():
        return sandbox._store.insert("ahr", values)


def billing(
    sandbox: Sandbox, transaction: int, amount: str, kind: str, number: int, *, voided: bool = False, adjusted: str = ""
) -> None:
    """Add a billing to a transaction without changing its sums.

    ``number`` is the billing type's id, ``adjusted`` an adjustment.
    """
    store = sandbox._store
    with store.transaction():
        values = {"billing_ts": _SINCE, "create_date": _SINCE, "voided": "t" if voided else "f", "note": None}
        row = {**values, "xact": transaction, "amount": amount, "billing_type": kind, "btype": number}
        id = store.insert("mb", row)
        if adjusted:
            store.insert("maa", {"xact": transaction, "billing": id, "amount": adjusted, "payment_ts": _SINCE})


def _summary(
    sandbox: Sandbox, id: int, patron: int, transaction: str, kind: str | None, billed: str, paid: str, since: str
) -> None:
    owed = f"{float(billed) - float(paid):.2f}"
    sandbox._store.insert(
        "mbts",
        {
            "id": id,
            "usr": patron,
            "xact_type": transaction,
            "xact_start": since,
            "last_billing_type": kind,
            "last_billing_ts": since if kind else None,
            "last_payment_ts": "2026-10-02T10:00:00+0000" if paid != "0.00" else None,
            "total_owed": billed,
            "total_paid": paid,
            "balance_owed": owed,
        },
    )


def family_of_six(sandbox: Sandbox) -> None:
    """Give the six members of patron 1001's family bills of several kinds, and items out, overdue and lost."""
    for place, patron in enumerate(range(1001, 1007)):
        lend(sandbox, patron, f"2039-01-{10 + place}", copy=9002)
        lend(sandbox, patron, f"2039-01-{10 + place}", copy=9003)
        lend(sandbox, patron, "2026-11-02", copy=9001, billed="1.20", paid="0.50")
        lend(sandbox, patron, "2026-08-02", copy=9005, state="LOST", kind="Lost Materials", billed="18.95")
        lend(sandbox, patron, "2026-07-02", copy=9004, returned=True, billed="0.80")
        bill(sandbox, patron, "2.50", "1.00", library=ELM)
