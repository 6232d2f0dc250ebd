"""ILS events, as the C services and the Perl ones write them.

The C services number them and say nothing of the time (``auth-016``); the Perl ones write the number as text and add
the server's time (``errors-057``), an empty number and description for codes that the event file doesn't list
(``patrons-051``).
"""

from __future__ import annotations

import os
from typing import Any

from evergreen_groups.sandbox.database import now

_KNOWN = {
    "SUCCESS": (0, "Success"),
    "LOGIN_FAILED": (1000, "User login failed"),
    "NO_SESSION": (1001, "User login session has either timed out or does not exist"),
    "ACTOR_USER_NOT_FOUND": (1002, "Someone attempted to retrieve a user from the system and the user was not found"),
    "USERNAME_EXISTS": (1200, "The given username already exists in the database"),
    "PATRON_CARD_INACTIVE": (1216, "The patron's card is not active"),
    "PATRON_INACTIVE": (1217, "This account is marked as inactive"),
    "XACT_COLLISION": (1230, "The saved item has been edited by another user"),
    "WORKSTATION_NOT_FOUND": (1520, " Requested workstation object does not exist "),
    "ACTOR_USER_ADDRESS_NOT_FOUND": (1528, "Requested address was not found"),
    "MONEY_BILLABLE_TRANSACTION_SUMMARY_NOT_FOUND": (
        1532,
        "The requested money_billable_transaction_summary was not found",
    ),
    "ACTOR_USER_STANDING_PENALTY_NOT_FOUND": (1569, "The requested actor_user_standing_penalty was not found"),
    "ACTOR_ORG_UNIT_NOT_FOUND": (1586, "The requested actor_org_unit was not found"),
    "ACTOR_CARD_NOT_FOUND": (1589, "The requested actor_card was not found"),
    "MONEY_GROCERY_NOT_FOUND": (1599, "The requested money_grocery was not found"),
    "MONEY_BILLABLE_TRANSACTION_NOT_FOUND": (1601, "The requested money_billable_transaction was not found"),
    "PERMISSION_GRP_TREE_NOT_FOUND": (1613, "The requested permission_grp_tree was not found"),
    "MONEY_BILLING_NOT_FOUND": (1628, "The requested money_billing was not found"),
    "CANNOT_DELETE_PRIMARY_CARD": (1990, "Cannot delete the primary barcode"),
    "CANNOT_DELETE_ACTIVE_CARD": (1991, "Cannot delete an active barcode"),
    "BAD_PARAMS": (2000, "Invalid parameters were encountered in a method"),
    "DATABASE_UPDATE_FAILED": (2001, "The attempt to write to the DB failed"),
    "DATABASE_QUERY_FAILED": (2002, "The attempt to query to the DB failed"),
    "INTERNAL_SERVER_ERROR": (2003, "There was an internal server error"),
    "PERM_FAILURE": (5000, "Permission Denied"),
}


def c_event(textcode: str, **fields: Any) -> dict[str, Any]:
    """An event of a service written in C (``open-ils.auth``); ``fields`` such as ``payload`` are added to it."""
    number, description = _KNOWN[textcode]
    return {
        "ilsevent": number,
        "textcode": textcode,
        "desc": description,
        "pid": os.getpid(),
        "stacktrace": "oils_auth.c:1",
        **fields,
    }


def perl_event(textcode: str, **fields: Any) -> dict[str, Any]:
    """An event of a service written in Perl; ``fields`` such as ``payload`` or ``ilsperm`` are added to it."""
    number, description = _KNOWN.get(textcode, ("", ""))
    return {
        "ilsevent": str(number),
        "textcode": textcode,
        "desc": description,
        "pid": os.getpid(),
        "servertime": now().strftime("%a %b %e %H:%M:%S %Y"),
        "stacktrace": "OpenSRF/Application.pm:628",
        **fields,
    }


class EventAnswer(Exception):  # noqa: N818 - an event need not be an error
    """Raised by a method to answer with an event; ``hash`` is the event itself."""

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(event["textcode"])
        self.hash = event


def no_session() -> EventAnswer:
    """The event for a token that no session has; it comes from the C service even through a Perl one."""
    return EventAnswer(c_event("NO_SESSION"))


def permission_failure(permission: str, org_unit: Any) -> EventAnswer:
    """The event for a permission that is missing at an org unit."""
    return EventAnswer(perl_event("PERM_FAILURE", ilsperm=permission, ilspermloc=org_unit))
