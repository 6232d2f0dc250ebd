"""Where passwords and secrets come from: the environment, files of their own, or systemd's credentials."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError

if TYPE_CHECKING:
    from evergreen_groups.settings.sections import EventsSettings, GatewaySettings, MailSettings

PASSWORD_VARIABLE = "EVERGREEN_GROUPS_PASSWORD"  # noqa: S105 - the name of a variable
CREDENTIAL_NAME = "password"
MAIL_PASSWORD_VARIABLE = "EVERGREEN_GROUPS_MAIL_PASSWORD"  # noqa: S105 - the name of a variable
MAIL_CREDENTIAL_NAME = "mail_password"
EVENTS_CREDENTIAL_NAME = "events_secret"
SHORTEST_SECRET = 16
"""How many characters the secret of the events has at least."""


def password(settings: GatewaySettings, environ: Mapping[str, str]) -> str:
    """Find the service account's password: environment, ``password_file``, or systemd's credentials.

    Raises:
        ConfigurationError: there is none, or its file can't be read or is readable by everybody.
    """
    return _password("gateway", settings.password_file, PASSWORD_VARIABLE, CREDENTIAL_NAME, environ)


def mail_password(settings: MailSettings, environ: Mapping[str, str]) -> str:
    """Find the password for the mail server in the same places, as ``mail_password``; raises what those do."""
    return _password("mail", settings.password_file, MAIL_PASSWORD_VARIABLE, MAIL_CREDENTIAL_NAME, environ)


def _password(section: str, file: Path | None, variable: str, name: str, environ: Mapping[str, str]) -> str:
    if environ.get(variable):
        return environ[variable]
    found = _from_file("password", file, name, environ)
    if found is not None:
        return found
    raise ConfigurationError(
        f'no password: set password_file in [{section}], ${variable}, or the systemd credential "{name}"'
    )


def events_secret(settings: EventsSettings, environ: Mapping[str, str]) -> str | None:
    """Find the secret of the events: ``secret_file`` or systemd's credentials; None where neither is there.

    Raises:
        ConfigurationError: its file can't be read or is readable by everybody, or the secret is too short.
    """
    secret = _from_file("secret", settings.secret_file, EVENTS_CREDENTIAL_NAME, environ)
    if secret is not None and len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"the secret of the events is too short: it takes {SHORTEST_SECRET} characters; "
            "`openssl rand -hex 24` makes one"
        )
    return secret


def _from_file(what: str, file: Path | None, credential_name: str, environ: Mapping[str, str]) -> str | None:
    """What the configured file holds, or systemd's credential of that name; None where neither is there."""
    if file is not None:
        return _secret_in(what, file, must_be_private=True)
    if environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(environ["CREDENTIALS_DIRECTORY"]) / credential_name
        if credential.is_file():
            return _secret_in(what, credential, must_be_private=False)
    return None


def _secret_in(what: str, path: Path, *, must_be_private: bool) -> str:
    try:
        with path.open(encoding="utf-8") as stream:
            mode = stat.S_IMODE(path.stat().st_mode)
            if must_be_private and mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigurationError(f"{what} file {path} is open to everybody: chmod 600 {path}")
            text = stream.read(4096).rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(
            f"{what} file {path} cannot be read: {error.strerror}; let this user read it, or name another"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{what} file {path} is not UTF-8 text; write the {what} anew") from error
    if not text:
        raise ConfigurationError(f"{what} file {path} is empty; write the {what} into it, alone on one line")
    return text
