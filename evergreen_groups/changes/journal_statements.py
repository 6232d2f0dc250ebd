"""The statements of the journal that each change needs, put together once: doing that takes longer than they do."""

from __future__ import annotations

from sqlalchemy import bindparam, insert, literal_column, select, update

from evergreen_groups.state import schema

changes, steps = schema.changes, schema.steps

# As it stands in the index of open steps: with a value that comes later neither engine could tell that the index will
# do, and each run would look through the whole journal.
_IS_OPEN = steps.c.state == literal_column("'sending'")
_mine, _earlier = steps.alias("mine"), steps.alias("earlier")
_PLACE = ("gateway", "patron", "field")

_undone = changes.alias("undone")
_undone_suffix = _undone.c.suffix.label("undone_suffix")

ENTRIES = select(changes, _undone_suffix).outerjoin(_undone, changes.c.undoes == _undone.c.id)
NEW_ENTRY = insert(changes).returning(changes.c.id)
NEW_STEPS = insert(steps).returning(steps.c.id, sort_by_parameter_order=True)
ENTRY = ENTRIES.where(changes.c.id == bindparam("entry"), changes.c.suffix == bindparam("with_suffix"))
STEPS_OF_ENTRY = select(steps).where(steps.c.change == bindparam("entry")).order_by(steps.c.id)
OPEN_STEPS = select(steps).where(_IS_OPEN, steps.c.gateway == bindparam("of_gateway")).order_by(steps.c.id)
UPDATE_STEP = update(steps).where(steps.c.id == bindparam("step"))
OPEN_AT_THE_SAME_PLACE = select(
    _earlier.c.id,
    *(_earlier.c[name] for name in ("patron", "field", "before", "after", "last_xact_id")),
    _mine.c.before.label("my_before"),
    _mine.c.after.label("my_after"),
).where(
    _mine.c.id == bindparam("step"),
    _earlier.c.id != bindparam("step"),
    literal_column("earlier.state") == literal_column("'sending'"),
    *(_earlier.c[name] == _mine.c[name] for name in _PLACE),
)
