"""Checks of this machine: configuration, passwords, state, report files, and who can access them."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups import configured
from evergreen_groups.doctor.finding import NOT_CONFIGURED, Finding, Found, failed, from_error, ok, warning
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.formats import OUTPUT_FORMATS, TEXT_FORMATS, format_of_file, output_format
from evergreen_groups.ils import KindNames
from evergreen_groups.message import Message, own_pip, system_reason
from evergreen_groups.plugins import PluginFailedError
from evergreen_groups.settings import passwords
from evergreen_groups.state import backup, examine, find_state_directory

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Subject
    from evergreen_groups.settings import ReportSettings, Settings

_OTHERS = stat.S_IRWXO
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_TWO_DAYS = timedelta(days=2)
_TRIAL_BYTES = 64 * 1024
STORED = {
    "history": Message("report runs"),
    "journal": Message("changes"),
    "events": Message("events"),
    "follow-ups": Message("follow-ups"),
    "mails": Message("queued mails"),
}
"""The kinds of rows in the database."""

_SHARED = "{trouble}"
_OPEN = "{path} is open to other users ({mode})"
_FOREIGN = "{path} belongs to another user (uid {owner})"
_NOT_THERE_YET = "{path} doesn't exist yet: the first run creates it"
_CANNOT_WRITE = "cannot write {path}: {reason}"
_MAKE_WRITABLE = "create the directory or make it writable for this user, or set another path in {section}"
_RUN = "{command}"
_SET_OUTPUT = "set [report] output, or use --output"
_SPLIT_OTHERWISE = "set another output or split in {section}"

_NO_CONFIGURATION = failed(
    "no-configuration",
    "no configuration found",
    "run `evergreen-groups init`, name a file with --config, or try --sandbox",
)
_CONFIGURATION_OF_ANOTHER_USER = failed("configuration-of-another-user", _FOREIGN, _RUN)
_CONFIGURATION_OPEN_TO_EVERYBODY = failed("configuration-open-to-everybody", _OPEN, _RUN)
_CONFIGURATION_OPEN_TO_GROUP = warning("configuration-open-to-group", _OPEN, _RUN)
_PASSWORD_WITH_BLANK = warning(
    "password-with-blank", "the password begins or ends with a space: {place}", "remove the space if it's a mistake"
)
_PASSWORD_FILE_SHARED = warning("password-file-shared", _SHARED, _RUN, "gateway.password_file")
_SECRET_FILE_SHARED = warning("secret-file-shared", _SHARED, _RUN, "events.secret_file")
_SOCKET_ELSEWHERE = warning(
    "socket-at-another-address",
    "systemd listens at {found}, but [serve] names {wanted}",
    "run `evergreen-groups install serve`",
    "serve.port",
)
_TEXTFILE_NOT_WRITABLE = failed("textfile-not-writable", _CANNOT_WRITE, _MAKE_WRITABLE, "metrics.textfile")
_STATE_NOT_A_DIRECTORY = failed("state-not-a-directory", _CANNOT_WRITE, _MAKE_WRITABLE)
_STATE_NOT_WRITABLE = failed("state-not-writable", _CANNOT_WRITE, _MAKE_WRITABLE)
_STATE_OPEN = warning("state-open", _OPEN, _RUN)
_PLUGIN_FAILED = failed(
    "plugin-failed",
    "the plug-in {name} can't be used ({reason})",
    "install it in the program's environment, correct it, or remove it from [plugins] enabled",
    "plugins.enabled",
)
_DATABASE_OPEN = failed("database-open", _OPEN, _RUN)
_DATABASE_OF_SEVERAL_ADDRESSES = warning(
    "database-of-several-addresses",
    "{where} was used with several addresses in the last 30 days, which don't protect each other's changes: "
    "{addresses}",
    "use the same [gateway] url on every server, and a separate database for each Evergreen; if the address has "
    "changed, run `evergreen-groups state move-address OLD NEW`",
    "gateway.url",
)
_BACKUP_OVERDUE = warning(
    "backup-overdue",
    "the latest backup is from {day}: {path}",
    "see the log of evergreen-groups-backup or cron; `evergreen-groups state backup` makes one now",
)
_KIND_MISSPELLED = warning("kind-misspelled", '"{name}" may be misspelled', "did you mean {similar}?")
_OUTPUT_SHARED = failed("output-shared", "{other} writes to {path} too", _SPLIT_OTHERWISE, "reports.output")
_OUTPUT_ENDING_UNKNOWN = failed(
    "output-ending-unknown",
    "unknown file extension: {path}",
    "use one of {endings}, or set {setting}",
    "reports.output",
)
_FORMAT_PACKAGE_MISSING = failed("format-package-missing", "{package} isn't installed", "{pip} install {package}")
_NO_OUTPUT_DIRECTORY = warning(
    "no-output-directory", "a report per library needs a directory", _SET_OUTPUT, "report.output"
)
_NO_OUTPUT_FILE = warning("no-output-file", "the format {format} needs a file", _SET_OUTPUT, "report.output")
_OUTPUT_OF_ANOTHER_KIND = failed("output-of-another-kind", _CANNOT_WRITE, _SPLIT_OTHERWISE)
_OUTPUT_DIRECTORY_MISSING = failed(
    "output-directory-missing", _CANNOT_WRITE, "create {directory}, or set another path in {section}"
)
_OUTPUT_NOT_WRITABLE = failed("output-not-writable", _CANNOT_WRITE, _MAKE_WRITABLE)
_OUTPUT_REPLACEABLE = warning("output-replaceable", _OPEN, _RUN)


def configuration(subject: Subject) -> Found:
    """The configuration exists, is valid, and names the gateway and the account."""
    if subject.reading.faults:
        return [from_error(fault.error) for fault in subject.reading.faults]
    settings = subject.settings
    if nothing := missing_configuration(settings):
        return nothing
    place = settings.source or Message("the environment")
    if subject.is_web_only:
        configured.gateway_url(settings)
        return ok("{path}; no account, so only the web service works, without events", path=place)
    configured.gateway_account(settings)
    return ok("{path}", path=place)


def missing_configuration(settings: Settings) -> Finding | None:
    return _NO_CONFIGURATION() if settings.gateway.url is None and settings.source is None else None


def configuration_file(subject: Subject) -> Found:
    """No other user can change the configuration, which determines where the password is sent."""
    source = subject.settings.source
    if source is None:
        return ()
    mode, private = source.stat().st_mode, f"chmod 600 {source}"
    if (owner := _foreign_owner(source)) is not None:
        return _CONFIGURATION_OF_ANOTHER_USER(path=source, owner=owner, command=f"chown root {source}; {private}")
    if mode & stat.S_IWOTH:
        return _CONFIGURATION_OPEN_TO_EVERYBODY(path=source, mode=_octal(mode), command=private)
    if mode & stat.S_IWGRP:
        return _CONFIGURATION_OPEN_TO_GROUP(path=source, mode=_octal(mode), command=f"chmod g-w {source}")
    return ok("only its owner can change it ({mode})", mode=_octal(mode))


def password(subject: Subject) -> Finding:
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
    if text != text.strip():
        return _PASSWORD_WITH_BLANK(place=place)
    if trouble:
        return _PASSWORD_FILE_SHARED(trouble=trouble, command=command)
    return ok("{place}", place=place)


def events_secret(subject: Subject) -> Finding:
    """The secret for events can be read, and its file is private to this user."""
    file = subject.settings.events.secret_file
    if passwords.secret(subject.settings.events, subject.environ) is None:
        return NOT_CONFIGURED
    trouble, command = _sharing(file)
    if trouble:
        return _SECRET_FILE_SHARED(trouble=trouble, command=command)
    return ok("{place}", place=file or _CREDENTIALS)


def service_socket(subject: Subject) -> Found:
    """The unit of the service's socket listens at the configured address, if it is installed."""
    try:
        command = ["systemctl", "show", "--property=Listen", "--value", "evergreen-groups.socket"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:  # no systemd
        return ()
    if not (listening := shown.partition(" ")[0].strip()):
        return ()
    wanted = configured.listen_address(subject.settings.serve)
    if listening == wanted:
        return ok("{address}", address=wanted)
    return _SOCKET_ELSEWHERE(found=listening, wanted=wanted)


def metrics(subject: Subject) -> Finding:
    """The metrics can be delivered as configured."""
    settings = subject.settings.metrics
    token = passwords.secret(settings, subject.environ)
    if token is None and settings.listen is None and settings.textfile is None:
        return NOT_CONFIGURED
    file = settings.textfile
    if file is not None and not os.access(file.parent, os.W_OK | os.X_OK):
        return _TEXTFILE_NOT_WRITABLE(path=file, reason=_denied(file.parent), section="[metrics]")
    places: list[object] = [place for place in (settings.listen, file) if place is not None]
    if token is not None:
        places.append("/evergreen-groups/metrics")
    return ok("{places}", places=places)


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


def state_directory(subject: Subject) -> Finding:
    """The state directory is writable, private to this user, and has free space."""
    path, section = find_state_directory(subject.environ), "$STATE_DIRECTORY"
    if path.exists() and not path.is_dir():
        return _STATE_NOT_A_DIRECTORY(path=path, reason=Message(os.strerror(errno.ENOTDIR)), section=section)
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    # A trial write also detects a full disk and a read-only file system.
    try:
        with tempfile.TemporaryDirectory(dir=place) as made:
            Path(made, "trial").write_bytes(b"\0" * _TRIAL_BYTES)
    except OSError as error:
        return _STATE_NOT_WRITABLE(path=place, reason=system_reason(error), section=section)
    if place != path:
        return ok(_NOT_THERE_YET, path=path)
    mode = path.stat().st_mode
    if mode & _GROUP_AND_OTHERS:
        return _STATE_OPEN(path=path, mode=_octal(mode), command=f"chmod 700 {path}")
    return ok("{path}", path=path)


def plugins(subject: Subject) -> Iterator[Finding]:
    """The enabled plug-ins can be loaded, and have one of the methods that are called."""
    state = subject.state
    for plugin in state.plugins.enabled:
        try:
            version, methods = plugin.inspect(state.plugins.seconds)
        except PluginFailedError as error:
            yield _PLUGIN_FAILED(name=plugin.name, reason=str(error))
        else:
            yield ok("{name}: {note}", name=f"{plugin.name} {version}", note=", ".join(methods))


def database(subject: Subject) -> Iterator[Finding]:
    """The database is intact, private to this user, and used for a single gateway."""
    database = subject.state.database
    if not database.is_there:
        yield ok(_NOT_THERE_YET, path=database.where)
        return
    path = database.path
    if path is not None and (mode := path.lstat().st_mode) & _OTHERS:
        yield _DATABASE_OPEN(path=path, mode=_octal(mode), command=f"chmod 600 {path}")
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
        where=found.where,
        megabytes=found.size / 1_000_000,
        stored=stored or Message("empty"),
    )
    addresses = set(found.addresses)
    with suppress(ConfigurationError):  # reported by the check of the address
        addresses.add(subject.address.base)
    if len(addresses) > 1:
        yield _DATABASE_OF_SEVERAL_ADDRESSES(where=found.where, addresses=sorted(addresses))


def retention(subject: Subject) -> Iterator[Finding]:
    """Backups are made every day, and how long backups and reports stay."""
    settings, state = subject.settings, subject.state.directory
    yield ok("reports per library: {days} days", days=settings.report.keep_days)
    made = backup.daily_backups(state)
    if not made:  # before `install`, root's state isn't yet where the timer's backups will be
        yield ok(
            "backups: none yet; `evergreen-groups install` sets up daily backups, and the latest {count} stay",
            count=settings.state.backups,
        )
        return
    at = datetime.fromtimestamp(made[-1].stat().st_mtime, UTC)
    if datetime.now(UTC) - at > _TWO_DAYS:
        yield _BACKUP_OVERDUE(day=at.astimezone().date(), path=made[-1])
        return
    yield ok("backups: the latest {count}, in {path}", count=settings.state.backups, path=state / backup.BACKUPS)


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
                yield _KIND_MISSPELLED(name=name, similar=similar).at(f"{section}.kinds")


def outputs(subject: Subject) -> Iterator[Finding]:
    """Each configured report can be written to its output."""
    settings = subject.settings
    yield _output_finding(settings.report, "[report]", settings.mail.attach)
    if any(one.contact for one in (settings.report, *(named.report for named in settings.reports))):
        contact = ok("report files include phone numbers, e-mail and postal addresses")
        yield contact.named("output.contact", Message("Contact data"))
    writers = {settings.report.output: "[report]"}
    for named in settings.reports:
        path = named.report.output
        if path is None:
            found = ok("mailed only")
        elif path in writers:
            found = _OUTPUT_SHARED(path=path, other=writers[path], section="[[reports]]")
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
        endings = ", ".join(f".{format.ending}" for format in OUTPUT_FORMATS if format.ending)
        return _OUTPUT_ENDING_UNKNOWN(path=path, endings=endings, setting="[[reports]] format")
    written = {*(report.formats if by_library else (by_ending or report.format,)), attached}
    lacking = next((format for format in OUTPUT_FORMATS if format.name in written and not format.installed), None)
    if lacking is not None:
        return _FORMAT_PACKAGE_MISSING(package=lacking.package, pip=own_pip())
    if path is not None:
        return _path_finding(path, section, by_library=by_library)
    if by_library:
        return _NO_OUTPUT_DIRECTORY()
    if (format := output_format(report.format)).binary:
        return _NO_OUTPUT_FILE(format=format.name)
    return ok("standard output")


def _path_finding(path: Path, section: str, *, by_library: bool) -> Finding:
    """Return whether this user can write to an output, and other users can't replace files there."""
    setting = f"{section.strip('[]')}.output"
    if path.exists() and path.is_dir() != by_library:
        reason = Message(os.strerror(errno.ENOTDIR if by_library else errno.EISDIR))
        return _OUTPUT_OF_ANOTHER_KIND(path=path, reason=reason, section=section).at(setting)
    places = [path, path / ".editions"] if by_library and path.exists() else [path.parent]
    if not (directory := places[0]).is_dir():
        reason = _denied(directory)
        return _OUTPUT_DIRECTORY_MISSING(path=path, reason=reason, section=section, directory=directory).at(setting)
    for place in filter(Path.is_dir, places):
        mode = place.stat().st_mode
        if not os.access(place, os.W_OK | os.X_OK):
            return _OUTPUT_NOT_WRITABLE(path=place, reason=_denied(place), section=section).at(setting)
        # With the sticky bit, only their owner can replace files.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return _OUTPUT_REPLACEABLE(path=place, mode=_octal(mode), command=f"chmod o-w {place}")
    return ok("{path}", path=path)
