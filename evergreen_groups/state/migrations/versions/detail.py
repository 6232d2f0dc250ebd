"""Follow-ups say more about a family that wasn't reached, why they were closed, and what came of promises."""

from alembic import op

revision = "13"
down_revision = "12"


def upgrade() -> None:
    """Add columns with their conditions: the only way to add a condition that SQLite has."""
    values = "'left-message', 'wrong-contact', 'paid', 'waived', 'given-up', 'other'"
    condition = f"CONSTRAINT follow_up_entries_detail CHECK (detail IN ({values}))"
    op.execute(f"ALTER TABLE follow_up_entries ADD COLUMN detail TEXT {condition}")
    amount = "TEXT" if op.get_bind().dialect.name == "sqlite" else "NUMERIC(14, 2)"
    condition = "CONSTRAINT follow_up_entries_outcome CHECK (outcome IN ('kept', 'broken', 'not-owed', 'check'))"
    for column in (f"amount {amount}", f"outcome TEXT {condition}", f"paid {amount}", f"forgiven {amount}"):
        op.execute(f"ALTER TABLE follow_up_entries ADD COLUMN {column}")
