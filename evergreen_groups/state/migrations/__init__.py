"""How the schema came to be as it is: one migration after another, run by Alembic."""
