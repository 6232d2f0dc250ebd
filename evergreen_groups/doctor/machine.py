"""Checks of this machine: configuration, passwords, state, report files, and who can access them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups import configured
from evergreen_groups.doctor.finding import Finding, failed, from_error, ok, warning
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import OUTPUT_FORMATS, TEXT_FORMATS, format_of_file, output_format
from evergreen_groups.message import Message, own_pip, system_reason
from evergreen_groups.plugins import PluginFailedError
from evergreen_groups.settings import passwords
from evergreen_groups.state import examine, find_state_directory

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Subject
    from evergreen_groups.settings import ReportSettings, Settings

_OTHERS = stat.S_IRWXO
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_TRIAL_BYTES = 64 * 1024
_STORED = {
    "history": Message("runs of the report: {count:,}, since {day}"),
    "journal": Message("changes: {count:,}, since {day}"),
    "events": Message("events: {count:,}, since {day}"),
    "follow-ups": Message("follow-ups: {count:,}, since {day}"),
    "mails": Message("mails that wait: {count:,}, since {day}"),
}
"""Descriptions of the kinds of rows in the database."""


def configuration(subject: Subject) -> Iterator[Finding]:
    """The configuration exists, is valid, and names the gateway and the account."""
    if subject.reading.faults:
        yield from (from_error(fault.error) for fault in subject.reading.faults)
        return
    settings = subject.settings
    if nothing := missing_configuration(settings):
        yield nothing
        return
    if subject.is_web_only:
        configured.gateway_url(settings)
        place = settings.source or Message("the environment")
        yield ok("{path}; without a username: for the web service alone, without events", values={"path": place})
        return
    configured.gateway_and_account(settings)
    if settings.source:
        yield ok("{path}", values={"path": settings.source})
    else:
        yield ok("no file; the settings come from the environment")


def missing_configuration(settings: Settings) -> Finding | None:
    """Return a finding if there is no configuration."""
    if settings.gateway.url is not None or settings.source is not None:
        return None
    return failed(
        "no configuration file in ~/.config/evergreen-groups or /etc/evergreen-groups, nor in $EVERGREEN_GROUPS_CONFIG",
        "make one with evergreen-groups init, or name one with --config",
        code="no-configuration",
    )


def configuration_file(subject: Subject) -> Iterator[Finding]:
    """No other user can change the configuration, which determines where the password is sent."""
    source = subject.settings.source
    if source is None:
        return
    mode = source.stat().st_mode
    owner = _foreign_owner(source)
    if owner is not None:
        yield failed(
            "{path} belongs to another user (uid {owner}), who could have the password sent elsewhere",
            "{command}",
            code="configuration-of-another-user",
            values={"path": source, "owner": owner, "command": f"chown root {source}; chmod 600 {source}"},
        )
    elif mode & stat.S_IWOTH:
        yield failed(
            "{path} can be changed by everybody, who could have the password sent elsewhere",
            "{command}",
            code="configuration-open-to-everybody",
            values={"path": source, "command": f"chmod 600 {source}"},
        )
    elif mode & stat.S_IWGRP:
        yield warning(
            "{path} can be changed by its group ({mode})",
            "{command}",
            code="configuration-open-to-group",
            values={"path": source, "mode": _octal(mode), "command": f"chmod g-w {source}"},
        )
    else:
        yield ok("{mode}, changed by its owner alone", values={"mode": _octal(mode)})


def password(subject: Subject) -> Iterator[Finding]:
    """The password can be read, and its file is private to this user."""
    text = passwords.password(subject.settings.gateway, subject.environ)
    file = subject.settings.gateway.password_file
    if subject.environ.get(passwords.PASSWORD_VARIABLE):
        place = Message("from ${variable}", values={"variable": passwords.PASSWORD_VARIABLE})
        if file is not None:
            values = {"variable": passwords.PASSWORD_VARIABLE, "path": file}
            place = Message("from ${variable}, which comes before {path}", values=values)
        file = None
    else:
        place = _from_file(file)
    trouble = _sharing_problem(file) if file else None
    if text != text.strip():
        yield warning(
            "{place}; it begins or ends with a blank",
            "remove the blank if it isn't meant",
            code="password-with-blank",
            values={"place": place},
        )
    elif trouble:
        yield warning(
            "{place}; {trouble}",
            "let this user alone have it, with chmod 600 {path}",
            code="password-file-shared",
            values={"place": place, "trouble": trouble, "path": file},
            setting="gateway.password_file",
        )
    else:
        yield ok("{place}", values={"place": place})


def events_secret(subject: Subject) -> Iterator[Finding]:
    """The secret for events can be read, and its file is private to this user."""
    file = subject.settings.events.secret_file
    if passwords.secret(subject.settings.events, subject.environ) is None:
        yield ok("no secret set: the web service takes no events")
        return
    place = _from_file(file)
    trouble = _sharing_problem(file) if file else None
    if trouble:
        yield warning(
            "{place}; {trouble}",
            "let this user alone have it, with chmod 600 {path}",
            code="secret-file-shared",
            values={"place": place, "trouble": trouble, "path": file},
            setting="events.secret_file",
        )
    else:
        yield ok("{place}", values={"place": place})


def metrics(subject: Subject) -> Iterator[Finding]:
    """The metrics can be delivered as configured."""
    settings = subject.settings.metrics
    token = passwords.secret(settings, subject.environ)
    if token is None and settings.listen is None and settings.textfile is None:
        yield ok("none are shown: nothing is set in [metrics]")
        return
    if settings.textfile is not None and not os.access(settings.textfile.parent, os.W_OK | os.X_OK):
        yield failed(
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
    yield ok("shown here: {places}", values={"places": places})


def _from_file(file: Path | None) -> Message:
    return Message("from {path}", values={"path": file}) if file else Message("from the systemd credential")


def _sharing_problem(path: Path) -> Message | None:
    """Describe who else can change a secret file; None if no one can. Files open to everyone are errors elsewhere."""
    mode = path.stat().st_mode
    if (owner := _foreign_owner(path)) is not None:
        return Message("it belongs to another user (uid {owner})", values={"owner": owner})
    return Message("its group can change it ({mode})", values={"mode": _octal(mode)}) if mode & stat.S_IWGRP else None


def state_directory(subject: Subject) -> Iterator[Finding]:
    """The state directory is writable, private to this user, and has free space."""
    path = find_state_directory(subject.environ)
    if path.exists() and not path.is_dir():
        yield failed(
            "{path} is no directory",
            "move {path} away, or set $STATE_DIRECTORY",
            code="state-not-a-directory",
            values={"path": path},
        )
        return
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    # A trial write also detects a full disk and a read-only file system.
    try:
        with tempfile.TemporaryDirectory(dir=place) as made:
            Path(made, "trial").write_bytes(b"\0" * _TRIAL_BYTES)
    except OSError as error:
        yield failed(
            "{place} can't be written to: {reason}",
            "let this user have {path}, and make room",
            code="state-not-writable",
            values={"place": place, "reason": system_reason(error), "path": path},
        )
        return
    if place != path:
        yield ok("{path}: the first run makes it", values={"path": path})
        return
    mode = path.stat().st_mode
    values = {"path": path, "mode": _octal(mode), "command": f"chmod 700 {path}"}
    if mode & _GROUP_AND_OTHERS:
        yield warning("{path} can be entered by others ({mode})", "{command}", code="state-open", values=values)
    else:
        yield ok("{path} ({mode}), writable", values=values)


def plugins(subject: Subject) -> Iterator[Finding]:
    """The enabled plug-ins can be loaded, and have one of the methods that are called."""
    state = subject.state
    for plugin in state.plugins.enabled:
        try:
            version, methods = plugin.inspect(state.plugins.seconds)
        except PluginFailedError as error:
            yield failed(
                "the plug-in {name} can't be used ({reason})",
                "install it in the program's environment, correct it, or remove it from [plugins] enabled",
                code="plugin-failed",
                values={"name": plugin.name, "reason": str(error)},
                setting="plugins.enabled",
            )
        else:
            yield ok("{name}: {note}", values={"name": f"{plugin.name} {version}", "note": ", ".join(methods)})


def database(subject: Subject) -> Iterator[Finding]:
    """The database is intact, private to this user, and used for a single gateway."""
    database = subject.state.database
    if not database.is_there:
        yield ok("no database yet: the first run makes the database")
        return
    path = database.path
    if path is not None and (mode := path.lstat().st_mode) & _OTHERS:
        yield failed(
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
    yield ok(
        "{where}: whole, {megabytes:.1f} MB, {stored}",
        values={
            "where": found.where,
            "megabytes": found.size / 1_000_000,
            "stored": stored or Message("nothing is kept yet"),
        },
    )
    addresses = set(found.addresses)
    with suppress(ConfigurationError):  # reported by the check of the address
        addresses.add(subject.address.base)
    if len(addresses) > 1:
        yield warning(
            "{where} has been used for several addresses in the last 30 days: {addresses}. Changes through one address "
            "aren't protected from changes through another",
            "set the same url in [gateway] on every server, and give each Evergreen a database of its own",
            code="database-of-several-addresses",
            values={"where": found.where, "addresses": sorted(addresses)},
            setting="gateway.url",
        )


def _foreign_owner(path: Path) -> int | None:
    """Return the owner (uid) of a file unless it is root or this user. Root may check another user's installation."""
    owner, reader = path.stat().st_uid, os.geteuid()
    return owner if reader and owner not in (0, reader) else None


def _octal(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"


def outputs(subject: Subject) -> Iterator[Finding]:
    """Each configured report can be written to its output."""
    settings = subject.settings
    yield _output_finding(settings.report, "[report]", settings.mail.attach)
    if any(one.contact for one in (settings.report, *(named.report for named in settings.reports))):
        yield ok("on: the files of the report also hold phone numbers, e-mail and postal addresses of patrons").named(
            "output.contact", Message("Contact data")
        )
    writers = {settings.report.output: "[report]"}
    for named in settings.reports:
        path = named.report.output
        if path is None:
            found = ok("it is mailed, and written nowhere")
        elif path in writers:
            found = failed(
                "{path} is written by {other} as well",
                "set another output in [[reports]]",
                code="output-shared",
                values={"path": path, "other": writers[path]},
                setting="reports.output",
            )
        else:
            found = _output_finding(named.report, "[[reports]]", settings.mail.attach)
        yield found.named(f"output.{named.name}", Message("Report {name}", values={"name": named.name}))
        writers[path] = named.name


def _output_finding(report: ReportSettings, section: str, attached: str) -> Finding:
    """Return whether a report can be written. ``section`` configures it; ``attached`` is the format of its mails."""
    path, by_library = report.output, report.split == "library"
    by_ending = format_of_file(path)
    is_file = path is not None and not by_library and not path.is_dir()
    # A report in [[reports]] has no option for the format.
    if section == "[[reports]]" and is_file and not by_ending and report.format == TEXT_FORMATS[0]:
        return failed(
            "{path} has none of the endings that stand for a format",
            "let it end in {endings}, or set format in [[reports]]",
            code="output-ending-unknown",
            values={"path": path, "endings": [f".{format.ending}" for format in OUTPUT_FORMATS if format.ending]},
            setting="reports.output",
        )
    written = {*(report.formats if by_library else (by_ending or report.format,)), attached}
    lacking = next((format for format in OUTPUT_FORMATS if format.name in written and not format.installed), None)
    if lacking is not None:
        return failed(
            "{format} is asked for, and the package {package} isn't there",
            "{pip} install 'evergreen-groups[{extra}]', or choose another format",
            code="format-package-missing",
            values={
                "format": lacking.phrase,
                "package": lacking.package,
                "extra": lacking.name,
                "pip": own_pip(),
            },
        )
    if path is None and by_library:
        return warning(
            "a report for each library needs a directory, and none is set",
            "set output in [report], or name one with --output each time",
            code="no-output-directory",
            setting="report.output",
        )
    if path is None and (format := output_format(report.format)).binary:
        return warning(
            "{format} needs a file, and none is set",
            "set output in [report], or name one with --output each time",
            code="no-output-file",
            values={"format": format.phrase},
            setting="report.output",
        )
    return ok("standard output") if path is None else _path_finding(path, section, by_library=by_library)


def _path_finding(path: Path, section: str, *, by_library: bool) -> Finding:
    """Return whether this user can write to an output, and other users can't replace files there."""
    setting = f"{section.strip('[]')}.output"
    if path.exists() and path.is_dir() != by_library:
        reason = Message("it is a directory, and one report is to be a file")
        if by_library:
            reason = Message("it is no directory, and a report for each library needs one")
        return failed(
            "{path} can't be the output: {reason}",
            "set another output, or another split, in {section}",
            code="output-of-another-kind",
            values={"path": path, "reason": reason, "section": section},
            setting=setting,
        )
    places = [path, path / ".editions"] if by_library and path.exists() else [path.parent]
    if not places[0].is_dir():
        return failed(
            "{place} is not there",
            "make it, or set another output in {section}",
            code="output-directory-missing",
            values={"place": places[0], "section": section},
            setting=setting,
        )
    for place in filter(Path.is_dir, places):
        mode = place.stat().st_mode
        if not os.access(place, os.W_OK | os.X_OK):
            return failed(
                "{place} can't be written to by this user",
                "give it to this user, or set another output",
                code="output-not-writable",
                values={"place": place},
                setting=setting,
            )
        # With the sticky bit, only their owner can replace files.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return warning(
                "everybody can replace files in {place}",
                "{command}",
                code="output-replaceable",
                values={"place": place, "command": f"chmod o-w {place}"},
            )
    return ok("{path}", values={"path": path})
