"""Stored plans. Each belongs to one staff user and can be applied only once."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from evergreen_groups.changes.journal import change_number
from evergreen_groups.changes.plans import Action, ExpectedGroup, StoredPlan, StoredStep
from evergreen_groups.errors import PlanError
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row, Select
    from sqlalchemy.engine import Connection

    from evergreen_groups.state import Transactions

plans = schema.plans

# Build the statements once: building takes longer than running them.
_mine = (plans.c.gateway == bindparam("of_gateway"), plans.c.staff == bindparam("of_staff"))
_plans = select(plans, schema.changes.c.suffix).outerjoin(schema.changes, plans.c.change == schema.changes.c.id)
_BY_ID = _plans.where(plans.c.id == bindparam("value"), *_mine)
_BY_KEY = _plans.where(plans.c.idempotency_key == bindparam("value"), *_mine)
_NEW = insert(plans)
_REMOVE_OLD = delete(plans).where(plans.c.at < bindparam("before"), plans.c.idempotency_key.is_(None))
_CLAIM = update(plans).where(
    plans.c.id == bindparam("plan"), plans.c.change.is_(None), plans.c.idempotency_key.is_(None)
)

_KEEP_UNUSED = timedelta(days=1)
"""How long to keep an unused plan after it expires, in order to report it as too old rather than unknown."""


class PlanStore:
    """The plans for one gateway (its address)."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def add(self, plan: StoredPlan) -> None:
        """Store a new plan, and delete unused plans that expired long ago."""
        # No need to be durable: a power cut loses the plan, nothing has been done, and the user makes a new one.
        with self._transactions.writing(durable=False) as connection:
            connection.execute(_REMOVE_OLD, {"before": plan.at - _KEEP_UNUSED})
            connection.execute(
                _NEW,
                {
                    "id": plan.id,
                    "gateway": self._gateway,
                    "staff": plan.staff,
                    "at": plan.at,
                    "expires": plan.expires,
                    "action": plan.action.value,
                    "content": plan.content,
                },
            )

    def find(self, id: str, staff: int) -> StoredPlan | None:
        """Return a staff user's plan, or None if there is none or it belongs to another user."""
        return self._find(_BY_ID, id, staff)

    def under_key(self, key: str, staff: int) -> StoredPlan | None:
        """Return the plan that a staff user has applied under an idempotency key."""
        return self._find(_BY_KEY, key, staff)

    def claim(self, connection: Connection, plan: StoredPlan, key: str, change: str) -> None:
        """Mark a plan as applied under this key, as part of a transaction.

        Raises:
            PlanError: the plan has been applied before, or the key belongs to another plan.
        """
        try:
            # The statement's conditions make this atomic: of two requests, only one updates the row.
            values = {"plan": plan.id, "idempotency_key": key, "change": change_number(change)}
            count = connection.execute(_CLAIM, values).rowcount
        except IntegrityError:  # the key is unique, and another plan has it
            raise key_conflict() from None
        if count != 1:
            raise already_applied()

    def _find(self, question: Select[Any], value: str, staff: int) -> StoredPlan | None:
        values = {"value": value, "of_gateway": self._gateway, "of_staff": staff}
        with self._transactions.reading() as connection:
            row = connection.execute(question, values).one_or_none()
        return None if row is None else _plan(row)


def key_conflict() -> PlanError:
    """Return the error for an idempotency key that belongs to another change."""
    return PlanError(
        "this idempotency key stands for another change",
        advice="take a new one for each change, and the same again only for the same change",
        code="key-of-another-change",
    )


def already_applied() -> PlanError:
    """Return the error for a second attempt to apply a plan."""
    return PlanError(
        "this plan has been applied before, under another key",
        advice="look at the group: what is still to be done takes a new plan",
        code="plan-applied-before",
    )


def expired(plan: StoredPlan, now: datetime) -> PlanError | None:
    """Return the error for a plan that is too old, or None."""
    if now < plan.expires:
        return None
    return PlanError("this plan is too old", advice="make it again, and look at it", code="plan-expired")


def _plan(row: Row[Any]) -> StoredPlan:
    content = json.loads(row.content)
    return StoredPlan(
        id=row.id,
        staff=int(row.staff),
        action=Action(row.action),
        at=row.at,
        expires=row.expires,
        steps=tuple(StoredStep(**step) for step in content["steps"]),
        groups=tuple(ExpectedGroup(group["number"], tuple(group["members"])) for group in content["groups"]),
        undoes=content["undoes"],
        key=row.idempotency_key,
        change=None if row.change is None else f"{row.change}-{row.suffix}",
    )
