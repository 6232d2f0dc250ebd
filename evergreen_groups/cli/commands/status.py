"""``evergreen-groups status``."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.language import gettext, ngettext, number
from evergreen_groups.message import Message
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.mail import HeldMails
    from evergreen_groups.state import Holder, RunStatus


_CLOCK_TOLERANCE = timedelta(minutes=5)
_OUTCOMES = {
    "done": Message("done", context="how a run ended"),
    "partial": Message("partial", context="how a run ended"),
    "failed": Message("failed", context="how a run ended"),
}


@click.command("status")
@click.option(
    "--max-age",
    "max_hours",
    type=cli.CheckedType(values.whole_number(1, 100_000), "hours"),
    default=26,
    show_default=True,
    help="Maximum age of the last run.",
)
@cli.json_option
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="The state directory of the runs. Default: $STATE_DIRECTORY, the units' directory (for root), or this user's.",
)
@click.pass_obj
def status_command(invocation: cli.Invocation, max_hours: int, as_json: bool, state_directory: Path | None) -> int:
    """Show how the last scheduled run of the report ended, when, and how long it took.

    A run in progress and later manual runs are mentioned, but don't count.

    Exit status 0: the run succeeded and is recent; 8: it couldn't send a mail, or mails are held since a restore; 12:
    it is too old, in the future, was killed, or never happened; else the run's own exit status.
    """
    from evergreen_groups.configured import configured_state
    from evergreen_groups.mail import Outbox
    from evergreen_groups.state import read_run_status

    named = state_directory is not None
    with configured_state(invocation.settings, os.environ, state_directory) if named else invocation.state() as state:
        found = StatusReading(
            read_run_status(state.database),
            read_run_status(state.database, manual=True),
            state.report_holder(),
            timedelta(hours=max_hours),
            state.database.now(),
            state.database.where,
            Outbox(state.database).held(),
        )
    click.echo(json.dumps(found.document(), indent=2) if as_json else found.sentence())
    return found.exit_status


@dataclass(frozen=True)
class StatusReading:
    """Evaluates what the database, named ``where``, holds: the last scheduled run, the last manual one, the holder of
    the lease, a run under way or killed, and mails held since a restore.
    """

    last: RunStatus | None
    manual: RunStatus | None
    holder: Holder | None
    max_age: timedelta
    now: datetime
    where: str
    held_mails: HeldMails

    @property
    def exit_status(self) -> int:
        """The exit status for monitoring."""
        if self.last is None or self._verdict != self.last.outcome.value:
            return exit_status.STALE
        return self.last.exit_code or (exit_status.UNSENT if self.held_mails.count else exit_status.DONE)

    def document(self) -> dict[str, object]:
        """Return the JSON object: the last run, its age, and the verdict."""
        return {
            "exit_status": self.exit_status,
            "verdict": self._verdict,
            "age_seconds": round(self._age.total_seconds()) if self.last else None,
            "last_run": self.last.document() if self.last else None,
            "last_manual_run": self.manual.document() if self.manual else None,
            "under_way": _holder_document(self.holder) if self.holder and self.holder.alive else None,
            "killed": _holder_document(self.holder) if self.holder and self._killed else None,
            "held_mails": self.held_mails.count,
        }

    def sentence(self) -> str:
        """Return the same for people, in a few lines."""
        last, manual, holder = self.last, self.manual, self.holder
        lines = [*self._about_last()]
        if self._killed and holder:
            lines.append(gettext("A later run was killed ({holder}).", holder=holder.message))
        elif holder and holder.alive:
            lines.append(gettext("A run is in progress ({holder}).", holder=holder.message))
        if last and self._age > self.max_age:
            hours = self.max_age // timedelta(hours=1)
            lines.append(
                ngettext("Too old: more than {count} hour ago.", "Too old: more than {count} hours ago.", hours)
            )
        if last and self._age < -_CLOCK_TOLERANCE:
            lines.append(gettext("The last run ended in the future: check the clock."))
        if self.held_mails.count:
            lines.append(gettext(self.held_mails.message))
        # If a manual run is later than the scheduled one, it may be the run that the user expects here.
        if manual is not None and (last is None or manual.finished >= last.finished):
            text = gettext(
                "Last manual run (doesn't count): {outcome}, ended {moment} ({ago}).",
                outcome=gettext(_OUTCOMES[manual.outcome.value]),
                moment=manual.finished,
                ago=_ago(self.now - manual.finished),
            )
            lines.append(text)
        return "\n".join(lines)

    @property
    def _verdict(self) -> str:
        if self._killed:
            return "killed"
        if self.last is None:
            return "never run"
        if self._age > self.max_age:
            return "too old"
        return "in the future" if self._age < -_CLOCK_TOLERANCE else self.last.outcome.value

    @property
    def _age(self) -> timedelta:
        return self.now - self.last.finished if self.last else timedelta.max

    @property
    def _killed(self) -> bool:
        return self.holder is not None and self.holder.was_killed(self.last.started if self.last else None)

    def _about_last(self) -> Iterator[str]:
        last = self.last
        if last is None:
            yield gettext(
                "No scheduled run has ended yet (looked in {place}). Under systemd, start one: "
                "systemctl start evergreen-groups-report",
                place=self.where,
            )
            return
        yield gettext(
            "Last run: {outcome}, ended {moment} ({ago}), took {seconds} s; groups listed: {groups}, "
            "members: {members}.",
            outcome=gettext(_OUTCOMES[last.outcome.value]),
            moment=last.finished,
            ago=_ago(self._age),
            seconds=last.seconds,
            groups="-" if last.groups is None else number(last.groups),
            members="-" if last.members is None else number(last.members),
        )
        if last.exit_code:
            meaning = exit_status.MEANINGS.get(last.exit_code, "?")
            error = f" ({last.error})" if last.error else ""
            yield gettext("Exit status {status}: {meaning}", status=last.exit_code, meaning=meaning) + error


def _holder_document(holder: Holder) -> dict[str, object]:
    return {"host": holder.host or socket.gethostname(), "pid": holder.pid, "since": holder.since.isoformat()}


def _ago(age: timedelta) -> str:
    """Describe how long ago something happened.

    >>> _ago(timedelta(seconds=5)), _ago(timedelta(minutes=5)), _ago(timedelta(hours=30)), _ago(timedelta(days=4))
    ('just now', '5 minutes ago', '30 hours ago', '4 days ago')
    """
    if age < timedelta(minutes=2):
        return gettext("just now")
    if age < timedelta(hours=2):
        return ngettext("{count} minute ago", "{count} minutes ago", age // timedelta(minutes=1))
    if age < timedelta(days=2):
        return ngettext("{count} hour ago", "{count} hours ago", age // timedelta(hours=1))
    return ngettext("{count} day ago", "{count} days ago", age.days)
