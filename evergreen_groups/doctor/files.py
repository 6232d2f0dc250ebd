"""Checks of this machine: the configuration, the password, the state directory, and who can read them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups import connect
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.settings import passwords
from evergreen_groups.state import examine

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, FindingMaker
    from evergreen_groups.doctor.installation import Subject
    from evergreen_groups.settings import Settings

_OTHERS = stat.S_IRWXO
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PORTION = 64 * 1024
_STORED = {
    "history": Message("runs of the report: {count:,}, since {day}"),
    "journal": Message("changes: {count:,}, since {day}"),
    "events": Message("events: {count:,}, since {day}"),
    "mails": Message("mails that wait: {count:,}, since {day}"),
}
"""What there is of each kind in the database."""


def configuration(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """It is there, can be read, holds nothing unknown, and names the gateway and the account."""
    if subject.reading.faults:
        yield from (line.of_error(fault.error) for fault in subject.reading.faults)
        return
    settings = subject.settings
    if nothing := none_at_all(settings, line):
        yield from nothing
        return
    if subject.serves_only:
        connect.gateway_url(settings)
        place = settings.source or Message("the environment")
        yield line.ok("{path}; without a username: for the web service alone, without events", values={"path": place})
        return
    connect.named(settings)
    if settings.source:
        yield line.ok("{path}", values={"path": settings.source})
    else:
        yield line.ok("no file; the settings come from the environment")


def none_at_all(settings: Settings, line: FindingMaker) -> list[Finding]:
    """The finding that there is no configuration, where there is none."""
    if settings.gateway.url is not None or settings.source is not None:
        return []
    return [
        line.failed(
            "no configuration file in ~/.config/evergreen-groups or /etc/evergreen-groups, nor in "
            "$EVERGREEN_GROUPS_CONFIG",
            "make one with evergreen-groups init, or name one with --config",
            code="no-configuration",
        )
    ]


def without_gateway(settings: Settings, line: FindingMaker) -> list[Finding]:
    """The finding that no gateway is named, where none is."""
    try:
        connect.gateway_url(settings)
    except ConfigurationError as error:
        return [line.of_error(error)]
    return []


def configuration_file(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Nobody else may change where the password is sent."""
    source = subject.settings.source
    if source is None:
        return
    mode = source.stat().st_mode
    owner = _stranger(source)
    if owner is not None:
        yield line.failed(
            "{path} belongs to another user (uid {owner}), who could have the password sent elsewhere",
            "{command}",
            code="configuration-of-another-user",
            values={"path": source, "owner": owner, "command": f"chown root {source}; chmod 600 {source}"},
        )
    elif mode & stat.S_IWOTH:
        yield line.failed(
            "{path} can be changed by everybody, who could have the password sent elsewhere",
            "{command}",
            code="configuration-open-to-everybody",
            values={"path": source, "command": f"chmod 600 {source}"},
        )
    elif mode & stat.S_IWGRP:
        yield line.warning(
            "{path} can be changed by its group ({mode})",
            "{command}",
            code="configuration-open-to-group",
            values={"path": source, "mode": _octal(mode), "command": f"chmod g-w {source}"},
        )
    else:
        yield line.ok("{mode}, changed by its owner alone", values={"mode": _octal(mode)})


def password(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """It can be had, and from a file that is for this account's eyes."""
    text = passwords.password(subject.settings.gateway, subject.environ)
    file = subject.settings.gateway.password_file
    if subject.environ.get(passwords.PASSWORD_VARIABLE):
        place = _from_variable(passwords.PASSWORD_VARIABLE, file)
        file = None
    else:
        place = _from_file(file)
    trouble = _shared(file) if file else None
    if text != text.strip():
        yield line.warning(
            "{place}; it begins or ends with a blank",
            "remove the blank if it isn't meant",
            code="password-with-blank",
            values={"place": place},
        )
    elif trouble:
        yield line.warning(
            "{place}; {trouble}",
            "let this user alone have it, with chmod 600 {path}",
            code="password-file-shared",
            values={"place": place, "trouble": trouble, "path": file},
            setting="gateway.password_file",
        )
    else:
        yield line.ok("{place}", values={"place": place})


def events_secret(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """What the ILS sends along with events can be had, and from a file that is for this account's eyes."""
    file = subject.settings.events.secret_file
    if passwords.events_secret(subject.settings.events, subject.environ) is None:
        yield line.ok("no secret set: the web service takes no events")
        return
    place = _from_file(file)
    trouble = _shared(file) if file else None
    if trouble:
        yield line.warning(
            "{place}; {trouble}",
            "let this user alone have it, with chmod 600 {path}",
            code="secret-file-shared",
            values={"place": place, "trouble": trouble, "path": file},
            setting="events.secret_file",
        )
    else:
        yield line.ok("{place}", values={"place": place})


def metrics(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """Monitoring gets what the configuration says it gets."""
    settings = subject.settings.metrics
    token = passwords.metrics_token(settings, subject.environ)
    if token is None and settings.listen is None and settings.textfile is None:
        yield line.ok("none are shown: nothing is set in [metrics]")
        return
    if settings.textfile is not None and not os.access(settings.textfile.parent, os.W_OK | os.X_OK):
        yield line.failed(
            "{path} can't be written by this user",
            "create the directory and let this user write there, or name another file",
            code="textfile-not-writable",
            values={"path": settings.textfile},
            setting="metrics.textfile",
        )
        return
    places: list[object] = [place for place in (settings.listen, settings.textfile) if place is not None]
    if token is not None:
        places.append(Message("for the token, at the service's own address"))
    yield line.ok("shown here: {places}", values={"places": places})


def _from_variable(name: str, file: Path | None) -> Message:
    if file is None:
        return Message("from ${variable}", values={"variable": name})
    return Message("from ${variable}, which comes before {path}", values={"variable": name, "path": file})


def _from_file(file: Path | None) -> Message:
    return Message("from {path}", values={"path": file}) if file else Message("from the systemd credential")


def _shared(path: Path) -> Message | None:
    """Who else can change a file that not everybody can, None where nobody can."""
    mode = path.stat().st_mode
    owner = _stranger(path)
    if owner is not None:
        return Message("it belongs to another user (uid {owner})", values={"owner": owner})
    return Message("its group can change it ({mode})", values={"mode": _octal(mode)}) if mode & stat.S_IWGRP else None


def state_directory(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """History and journal have a place that only this account can enter, with room left."""
    path = subject.state_directory
    if path.exists() and not path.is_dir():
        yield line.failed(
            "{path} is no directory",
            "move {path} away, or set $STATE_DIRECTORY",
            code="state-not-a-directory",
            values={"path": path},
        )
        return
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=place) as made:
            Path(made, "trial").write_bytes(b"\0" * _PORTION)
    except OSError as error:
        yield line.failed(
            "{place} can't be written to: {reason}",
            "let this user have {path}, and make room",
            code="state-not-writable",
            values={"place": place, "reason": system_reason(error), "path": path},
        )
        return
    if place != path:
        yield line.ok("{path}: the first run makes it", values={"path": path})
        return
    mode = path.stat().st_mode
    values = {"path": path, "mode": _octal(mode), "command": f"chmod 700 {path}"}
    if mode & _GROUP_AND_OTHERS:
        yield line.warning("{path} can be entered by others ({mode})", "{command}", code="state-open", values=values)
    else:
        yield line.ok("{path} ({mode}), writable", values=values)


def database(subject: Subject, line: FindingMaker) -> Iterator[Finding]:
    """What is kept is whole, for this account alone, and no older than it is to be."""
    database = subject.state.database
    if not database.is_there:
        yield line.ok("no database yet: the first run makes the database")
        return
    path = database.path
    if path is not None and (mode := path.lstat().st_mode) & _OTHERS:
        yield line.failed(
            "{path} can be read by everybody ({mode})",
            "{command}",
            code="database-open",
            values={"path": path, "mode": _octal(mode), "command": f"chmod 600 {path}"},
        )
        return
    found = examine(database)
    stored = tuple(
        _STORED[amount.name].with_values({"count": amount.rows, "day": amount.since.astimezone().date()})
        for amount in found.amounts
        if amount.since
    )
    yield line.ok(
        "{where}: whole, {megabytes:.1f} MB, {stored}",
        values={
            "where": found.where,
            "megabytes": found.size / 1_000_000,
            "stored": stored or Message("nothing is kept yet"),
        },
    )
    addresses = set(found.addresses)
    with suppress(ConfigurationError):  # which the check of the address says
        addresses.add(subject.address.base)
    if len(addresses) > 1:
        yield line.warning(
            "{where} has been used for several addresses in the last 30 days: {addresses}. Changes through one address "
            "aren't protected from changes through another",
            "set the same url in [gateway] on every server, and give each Evergreen a database of its own",
            code="database-of-several-addresses",
            values={"where": found.where, "addresses": sorted(addresses)},
            setting="gateway.url",
        )


def _stranger(path: Path) -> int | None:
    """The owner (uid) of a file, where that is neither root nor whoever runs this; root may look for another user."""
    owner, reader = path.stat().st_uid, os.geteuid()
    return owner if reader and owner not in (0, reader) else None


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
