"""The schema of 1.0, where migrations begin. A new database gets today's tables at once instead (``upgrade.py``)."""

revision = "12"
down_revision = None
