"""Write the state database of a release, which every later version must upgrade and read.

    PYTHONPATH=tests python -m support.released_state 1.0

writes ``tests/recorded/state/1.0``: the database as a SQLite file, as a dump of PostgreSQL, and its rows as ``state
export`` writes them. The sandbox's sample data is in every table. Do this for each release with a new schema, and keep
the older ones: users upgrade from them.
"""

import io
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import insert, update
from support.follow_ups import draft, save
from support.gateways import environ_of, gateway_of
from support.postgresql import own_cluster
from support.repository import REPOSITORY

from evergreen_groups import hooks
from evergreen_groups.changes import Action, Operator, PlanRequest
from evergreen_groups.cli.application import run
from evergreen_groups.client import Client
from evergreen_groups.follow_up import FollowUps, What
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, schema
from evergreen_groups.state.backup import back_up, export, restore

RELEASED = REPOSITORY / "tests" / "recorded" / "state"
FILE, DUMP, ROWS = "state.sqlite3", "postgresql.sql", "rows.jsonl"
_CONFIGURATION = """
[mail]
host = "127.0.0.1"
port = 9
security = "none"
sender = "groups@example.org"

[mail.recipients]
"*" = ["director@example.org"]
"""


def exported(state: State) -> list[str]:
    export(state.database, stream := io.StringIO())
    return stream.getvalue().splitlines()


def fill(state: State, directory: Path) -> None:
    """Use the program as a library does in two days: reports, changes, an audit, a follow-up and an event."""
    with Sandbox(port=8210) as sandbox:
        configuration = directory / "config.toml"
        configuration.write_text(_CONFIGURATION)
        configuration.chmod(0o600)
        os.environ |= {**environ_of(sandbox.url), "EVERGREEN_GROUPS_CONFIG": str(configuration)}
        os.environ["STATE_DIRECTORY"] = str(state.directory)
        report = ("--quiet", "report", "--mail", "--output", str(directory / "report.html"))
        run(report)  # the mails wait, because nobody takes them
        with (
            gateway_of(sandbox.url, "consortium_staff") as gateway,
            Client(gateway, account=Operator("user 1", 1, 2), state=state) as client,
        ):
            proposed = client.changes.propose(PlanRequest(Action.REMOVE, ("20000000001052",)))
            hooks.undo_change(client, hooks.apply_plan(client, proposed.stored.id, "key").entry.id, "other key")
            client.keep_groups([1003])
            hooks.handle_event(client, hooks.Event(1, "au.updated", 1015), recalculate=False)
        run(report)
        listed = FollowUps(state.database, sandbox.url).of_report("")
        assert listed is not None
        first = next(iter(listed.by_group))
        save(state, draft(first, What.PROMISED, note="by Friday"), url=sandbox.url)


def leave_lease(state: State) -> None:
    """Leave the note of a run that was killed on a server."""
    with state.database.writing() as connection:
        values = {"name": "report", "host": "library", "process": 42, "since": state.database.now()}
        connection.execute(insert(schema.leases).values(values))


def main() -> None:
    target = RELEASED / sys.argv[1]
    target.mkdir(parents=True)
    with TemporaryDirectory() as directory, own_cluster() as cluster, cluster.database() as name:
        with State(Path(directory, "state")) as state:
            fill(state, Path(directory))
            leave_lease(state)
            back_up(state.database, target / FILE)
            rows = exported(state)
        with State(Path(directory, "empty"), cluster.url(name)) as server:
            restore(server.database, target / FILE)
            with server.database.writing() as connection:
                connection.execute(update(schema.mails).values(held_since=None))  # as in the file
            leave_lease(server)
        (target / ROWS).write_text("".join(f"{row}\n" for row in rows), "utf-8")
        options = ("--no-owner", "--no-acl", "--inserts", "-h", str(cluster.directory), "-U", "postgres", name)
        dump = subprocess.run(["pg_dump", *options], capture_output=True, text=True, check=True).stdout
    # Without what depends on the version of PostgreSQL, and what psql alone understands.
    lines = [line for line in dump.splitlines() if line and not line.startswith(("--", "\\", "SET "))]
    (target / DUMP).write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
