"""Follow-ups say more about a family that wasn't reached, and why they were closed."""

from alembic import op

revision = "13"
down_revision = "12"


def upgrade() -> None:
    """Add a column with its condition: the only way to add a condition that SQLite has."""
    values = "'left-message', 'wrong-contact', 'paid', 'waived', 'given-up', 'other'"
    condition = f"CONSTRAINT follow_up_entries_detail CHECK (detail IN ({values}))"
    op.execute(f"ALTER TABLE follow_up_entries ADD COLUMN detail TEXT {condition}")
