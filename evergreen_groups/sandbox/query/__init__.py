"""Evergreen's JSON queries, turned into SQL for SQLite as ``oils_sql.c`` turns them into SQL for PostgreSQL."""
