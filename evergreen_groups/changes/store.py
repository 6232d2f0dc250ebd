"""Plans in the database: one staff user's own, and each applied once at most."""

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

# Put together once: doing that takes longer than they do.
_mine = (plans.c.gateway == bindparam("of_gateway"), plans.c.staff == bindparam("of_staff"))
_plans = select(plans, schema.changes.c.suffix).outerjoin(schema.changes, plans.c.change == schema.changes.c.id)
_BY_ID = _plans.where(plans.c.id == bindparam("value"), *_mine)
_BY_KEY = _plans.where(plans.c.idempotency_key == bindparam("value"), *_mine)
_NEW = insert(plans)
_REMOVE_OLD = delete(plans).where(plans.c.at < bindparam("before"), plans.c.idempotency_key.is_(None))
_CLAIM = update(plans).where(
    plans.c.id == bindparam("plan"), plans.c.change.is_(None), plans.c.idempotency_key.is_(None)
)

_LEFT_LYING = timedelta(days=1)
"""How long after its end a plan that nobody agreed to stays, for a sentence that says so."""


class PlanStore:
    """The plans of one gateway (its address)."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def add(self, plan: StoredPlan) -> None:
        """Store a new plan; those that were left lying are removed on the way."""
        # A power cut leaves nothing of it and nothing done: whoever agrees to it then is shown what it is now.
        with self._transactions.writing(durable=False) as connection:
            connection.execute(_REMOVE_OLD, {"before": plan.at - _LEFT_LYING})
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
        """A staff user's plan; None where there is none, or it is somebody else's."""
        return self._one(_BY_ID, id, staff)

    def under_key(self, key: str, staff: int) -> StoredPlan | None:
        """The plan that a staff user has applied under a key."""
        return self._one(_BY_KEY, key, staff)

    def claim(self, connection: Connection, plan: StoredPlan, key: str, change: str) -> None:
        """Note in a transaction that a plan is being applied, under this key.

        Raises:
            PlanError: it has been, or the key stands for another.
        """
        try:
            values = {"plan": plan.id, "idempotency_key": key, "change": change_number(change)}
            count = connection.execute(_CLAIM, values).rowcount
        except IntegrityError:
            raise key_of_another() from None
        if count != 1:
            raise applied_before()

    def _one(self, question: Select[Any], value: str, staff: int) -> StoredPlan | None:
        values = {"value": value, "of_gateway": self._gateway, "of_staff": staff}
        with self._transactions.reading() as connection:
            row = connection.execute(question, values).one_or_none()
        return None if row is None else _plan(row)


def key_of_another() -> PlanError:
    """A key was given that stands for something else."""
    return PlanError(
        "this idempotency key stands for another change",
        advice="take a new one for each change, and the same again only for the same change",
        code="key-of-another-change",
    )


def applied_before() -> PlanError:
    """A plan was to be applied a second time."""
    return PlanError(
        "this plan has been applied before, under another key",
        advice="look at the group: what is still to be done takes a new plan",
        code="plan-applied-before",
    )


def expired(plan: StoredPlan, now: datetime) -> PlanError | None:
    """The refusal of a plan that is too old; None where it isn't."""
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
