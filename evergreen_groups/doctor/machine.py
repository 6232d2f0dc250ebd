"""Checks of this machine: configuration, passwords, state, report files, and who can access them."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups import configured
from evergreen_groups.doctor.finding import NOT_CONFIGURED, Finding, failed, from_error, ok, warning
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import OUTPUT_FORMATS, TEXT_FORMATS, format_of_file, output_format
from evergreen_groups.ils import KindNames
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
STORED = {
    "history": Message("report runs"),
    "journal": Message("changes"),
    "events": Message("events"),
    "follow-ups": Message("follow-ups"),
    "mails": Message("queued mails"),
}
"""The kinds of rows in the database."""
_MAKE_WRITABLE = "create the directory or make it writable for this user, or set another path in {section}"
_NOT_THERE_YET = "{path} doesn't exist yet: the first run creates it"
_CANNOT_WRITE = "cannot write {path}: {reason}"
_OPEN = "{path} is open to other users ({mode})"
_FOREIGN = "{path} belongs to another user (uid {owner})"


def configuration(subject: Subject) -> Iterator[Finding]:
    """The configuration exists, is valid, and names the gateway and the account."""
    if subject.reading.faults:
        yield from (from_error(fault.error) for fault in subject.reading.faults)
        return
    settings = subject.settings
    if nothing := missing_configuration(settings):
        yield nothing
        return
    place = settings.source or Message("the environment")
    if subject.is_web_only:
        configured.gateway_url(settings)
        yield ok("{path}; no account, so only the web service works, without events", values={"path": place})
        return
    configured.gateway_account(settings)
    yield ok("{path}", values={"path": place})


def missing_configuration(settings: Settings) -> Finding | None:
    if settings.gateway.url is not None or settings.source is not None:
        return None
    return failed(
        "no configuration found",
        "run `evergreen-groups init`, name a file with --config, or try --sandbox",
        code="no-configuration",
    )


def configuration_file(subject: Subject) -> Iterator[Finding]:
    """No other user can change the configuration, which determines where the password is sent."""
    source = subject.settings.source
    if source is None:
        return
    mode = source.stat().st_mode
    owner = _foreign_owner(source)
    values = {"path": source, "mode": _octal(mode), "command": f"chmod 600 {source}"}
    if owner is not None:
        yield failed(
            _FOREIGN,
            "{command}",
            code="configuration-of-another-user",
            values={"path": source, "owner": owner, "command": f"chown root {source}; chmod 600 {source}"},
        )
    elif mode & stat.S_IWOTH:
        yield failed(_OPEN, "{command}", code="configuration-open-to-everybody", values=values)
    elif mode & stat.S_IWGRP:
        values["command"] = f"chmod g-w {source}"
        yield warning(_OPEN, "{command}", code="configuration-open-to-group", values=values)
    else:
        yield ok("only its owner can change it ({mode})", values=values)


def password(subject: Subject) -> Iterator[Finding]:
    """The password can be read, and its file is private to this user."""
    text = passwords.password(subject.settings.gateway, subject.environ)
    file = subject.settings.gateway.password_file
    place: object = file or _CREDENTIALS
    if subject.environ.get(passwords.PASSWORD_VARIABLE):
        place = f"${passwords.PASSWORD_VARIABLE}"
        if file is not None:
            place = Message("{variable}, which overrides {path}", values={"variable": place, "path": file})
        file = None
    trouble, command = _sharing(file)
    values = {"trouble": trouble, "command": command}
    if text != text.strip():
        yield warning(
            "the password begins or ends with a space: {place}",
            "remove the space if it's a mistake",
            code="password-with-blank",
            values={"place": place},
        )
    elif trouble:
        setting = "gateway.password_file"
        yield warning("{trouble}", "{command}", code="password-file-shared", values=values, setting=setting)
    else:
        yield ok("{place}", values={"place": place})


def events_secret(subject: Subject) -> Iterator[Finding]:
    """The secret for events can be read, and its file is private to this user."""
    file = subject.settings.events.secret_file
    if passwords.secret(subject.settings.events, subject.environ) is None:
        yield NOT_CONFIGURED
        return
    trouble, command = _sharing(file)
    values = {"trouble": trouble, "command": command}
    if trouble:
        setting = "events.secret_file"
        yield warning("{trouble}", "{command}", code="secret-file-shared", values=values, setting=setting)
    else:
        yield ok("{place}", values={"place": file or _CREDENTIALS})


def service_socket(subject: Subject) -> Iterator[Finding]:
    """The unit of the service's socket listens at the configured address, if it is installed."""
    try:
        command = ["systemctl", "show", "--property=Listen", "--value", "evergreen-groups.socket"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:  # no systemd
        return
    if not (listening := shown.partition(" ")[0].strip()):
        return
    wanted = configured.listen_address(subject.settings.serve)
    if listening == wanted:
        yield ok("{address}", values={"address": wanted})
        return
    yield warning(
        "systemd listens at {found}, but [serve] names {wanted}",
        "run `evergreen-groups install serve`",
        code="socket-at-another-address",
        values={"found": listening, "wanted": wanted},
        setting="serve.port",
    )


def metrics(subject: Subject) -> Iterator[Finding]:
    """The metrics can be delivered as configured."""
    settings = subject.settings.metrics
    token = passwords.secret(settings, subject.environ)
    if token is None and settings.listen is None and settings.textfile is None:
        yield NOT_CONFIGURED
        return
    if settings.textfile is not None and not os.access(settings.textfile.parent, os.W_OK | os.X_OK):
        yield failed(
            _CANNOT_WRITE,
            _MAKE_WRITABLE,
            code="textfile-not-writable",
            values={"path": settings.textfile, "reason": _denied(settings.textfile.parent), "section": "[metrics]"},
            setting="metrics.textfile",
        )
        return
    places: list[object] = [place for place in (settings.listen, settings.textfile) if place is not None]
    if token is not None:
        places.append("/evergreen-groups/metrics")
    yield ok("{places}", values={"places": places})


_CREDENTIALS = "$CREDENTIALS_DIRECTORY"


def _denied(directory: Path) -> Message:
    return Message(os.strerror(errno.EACCES if directory.is_dir() else errno.ENOENT))


def _sharing(path: Path | None) -> tuple[object, str]:
    """Return who else can change a secret file ("" if no one) and a remedy. Files open to all are refused earlier."""
    if path is None:
        return "", ""
    mode, owner = path.stat().st_mode, _foreign_owner(path)
    if owner is not None:
        trouble = Message(_FOREIGN, values={"path": path, "owner": owner})
        return trouble, f"chown {os.geteuid()} {path}; chmod 600 {path}"
    if mode & stat.S_IWGRP:
        trouble = Message(_OPEN, values={"path": path, "mode": _octal(mode)})
        return trouble, f"chmod 600 {path}"
    return "", ""


def state_directory(subject: Subject) -> Iterator[Finding]:
    """The state directory is writable, private to this user, and has free space."""
    path = find_state_directory(subject.environ)
    if path.exists() and not path.is_dir():
        values = {"path": path, "reason": Message(os.strerror(errno.ENOTDIR)), "section": "$STATE_DIRECTORY"}
        yield failed(_CANNOT_WRITE, _MAKE_WRITABLE, code="state-not-a-directory", values=values)
        return
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    # A trial write also detects a full disk and a read-only file system.
    try:
        with tempfile.TemporaryDirectory(dir=place) as made:
            Path(made, "trial").write_bytes(b"\0" * _TRIAL_BYTES)
    except OSError as error:
        values = {"path": place, "reason": system_reason(error), "section": "$STATE_DIRECTORY"}
        yield failed(_CANNOT_WRITE, _MAKE_WRITABLE, code="state-not-writable", values=values)
        return
    if place != path:
        yield ok(_NOT_THERE_YET, values={"path": path})
        return
    mode = path.stat().st_mode
    values = {"path": path, "mode": _octal(mode), "command": f"chmod 700 {path}"}
    if mode & _GROUP_AND_OTHERS:
        yield warning(_OPEN, "{command}", code="state-open", values=values)
    else:
        yield ok("{path}", values=values)


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
        yield ok(_NOT_THERE_YET, values={"path": database.where})
        return
    path = database.path
    if path is not None and (mode := path.lstat().st_mode) & _OTHERS:
        yield failed(
            _OPEN,
            "{command}",
            code="database-open",
            values={"path": path, "mode": _octal(mode), "command": f"chmod 600 {path}"},
        )
        return
    found = examine(database)
    stored = tuple(
        Message(
            "{name}: {count:,} since {day}",
            values={"name": STORED[amount.name], "count": amount.rows, "day": amount.since.astimezone().date()},
        )
        for amount in found.amounts
        if amount.since
    )
    yield ok(
        "{where} ({megabytes:.1f} MB): {stored}",
        values={"where": found.where, "megabytes": found.size / 1_000_000, "stored": stored or Message("empty")},
    )
    addresses = set(found.addresses)
    with suppress(ConfigurationError):  # reported by the check of the address
        addresses.add(subject.address.base)
    if len(addresses) > 1:
        yield warning(
            "{where} was used with several addresses in the last 30 days, which don't protect each other's changes: "
            "{addresses}",
            "use the same [gateway] url on every server, and a separate database for each Evergreen",
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


def kinds(subject: Subject) -> Iterator[Finding]:
    """Names of kinds of bills that look misspelled. Only Evergreen knows whether they are billing types."""
    settings, known = subject.settings, KindNames()
    for section, report in (("report", settings.report), *(("reports", one.report) for one in settings.reports)):
        for name in known.unknown(report.kinds):
            if similar := known.similar(name):
                yield warning(
                    '"{name}" may be misspelled',
                    "did you mean {similar}?",
                    code="kind-misspelled",
                    values={"name": name, "similar": similar},
                    setting=f"{section}.kinds",
                )


def outputs(subject: Subject) -> Iterator[Finding]:
    """Each configured report can be written to its output."""
    settings = subject.settings
    yield _output_finding(settings.report, "[report]", settings.mail.attach)
    if any(one.contact for one in (settings.report, *(named.report for named in settings.reports))):
        yield ok("report files include phone numbers, e-mail and postal addresses").named(
            "output.contact", Message("Contact data")
        )
    writers = {settings.report.output: "[report]"}
    for named in settings.reports:
        path = named.report.output
        if path is None:
            found = ok("mailed only")
        elif path in writers:
            found = failed(
                "{other} writes to {path} too",
                "set another output or split in {section}",
                code="output-shared",
                values={"path": path, "other": writers[path], "section": "[[reports]]"},
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
            "unknown file extension: {path}",
            "use one of {endings}, or set {setting}",
            code="output-ending-unknown",
            values={
                "path": path,
                "endings": ", ".join(f".{format.ending}" for format in OUTPUT_FORMATS if format.ending),
                "setting": "[[reports]] format",
            },
            setting="reports.output",
        )
    written = {*(report.formats if by_library else (by_ending or report.format,)), attached}
    lacking = next((format for format in OUTPUT_FORMATS if format.name in written and not format.installed), None)
    if lacking is not None:
        return failed(
            "{package} isn't installed",
            "{pip} install 'evergreen-groups[{extra}]'",
            code="format-package-missing",
            values={"package": lacking.package, "extra": lacking.name, "pip": own_pip()},
        )
    if path is None and by_library:
        return warning(
            "a report per library needs a directory",
            "set [report] output, or use --output",
            code="no-output-directory",
            setting="report.output",
        )
    if path is None and (format := output_format(report.format)).binary:
        return warning(
            "the format {format} needs a file",
            "set [report] output, or use --output",
            code="no-output-file",
            values={"format": format.name},
            setting="report.output",
        )
    return ok("standard output") if path is None else _path_finding(path, section, by_library=by_library)


def _path_finding(path: Path, section: str, *, by_library: bool) -> Finding:
    """Return whether this user can write to an output, and other users can't replace files there."""
    setting = f"{section.strip('[]')}.output"
    if path.exists() and path.is_dir() != by_library:
        reason = Message(os.strerror(errno.ENOTDIR if by_library else errno.EISDIR))
        return failed(
            _CANNOT_WRITE,
            "set another output or split in {section}",
            code="output-of-another-kind",
            values={"path": path, "reason": reason, "section": section},
            setting=setting,
        )
    places = [path, path / ".editions"] if by_library and path.exists() else [path.parent]
    if not places[0].is_dir():
        values = {"path": path, "reason": _denied(places[0]), "section": section, "directory": places[0]}
        advice = "create {directory}, or set another path in {section}"
        return failed(_CANNOT_WRITE, advice, code="output-directory-missing", values=values, setting=setting)
    for place in filter(Path.is_dir, places):
        mode = place.stat().st_mode
        if not os.access(place, os.W_OK | os.X_OK):
            values = {"path": place, "reason": _denied(place), "section": section}
            return failed(_CANNOT_WRITE, _MAKE_WRITABLE, code="output-not-writable", values=values, setting=setting)
        # With the sticky bit, only their owner can replace files.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return warning(
                _OPEN,
                "{command}",
                code="output-replaceable",
                values={"path": place, "mode": _octal(mode), "command": f"chmod o-w {place}"},
            )
    return ok("{path}", values={"path": path})
