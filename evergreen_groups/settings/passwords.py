"""Where passwords and secrets come from: the environment, files of their own, or systemd's credentials."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import system_reason
from evergreen_groups.settings.declaration import declared_sections
from evergreen_groups.settings.reading import Origin
from evergreen_groups.settings.sections import Settings

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Secret, Setting
    from evergreen_groups.settings.sections import (
        EventsSettings,
        GatewaySettings,
        MailSettings,
        MetricsSettings,
        RedisSettings,
        StateSettings,
    )


def secret_of(setting: Setting) -> Secret:
    """What is declared of the secret in the file that a setting names.

    Raises:
        LookupError: the setting names none.
    """
    if setting.secret is None:
        raise LookupError(setting.key)
    return setting.secret


def _declared(section: str) -> Setting:
    """The setting of a section that names the file of its secret."""
    return next(setting for setting in declared_sections(Settings)[section] if setting.secret is not None)


PASSWORD_VARIABLE, MAIL_PASSWORD_VARIABLE = (str(secret_of(_declared(name)).variable) for name in ("gateway", "mail"))


def password(settings: GatewaySettings, environ: Mapping[str, str]) -> str:
    """Find the service account's password: environment, ``password_file``, or systemd's credentials.

    Raises:
        ConfigurationError: there is none, or its file can't be read or is readable by everybody.
    """
    return _needed(_declared("gateway"), settings, environ)


def mail_password(settings: MailSettings, environ: Mapping[str, str]) -> str:
    """Find the password for the mail server in the same places, as ``mail_password``; raises what those do."""
    return _needed(_declared("mail"), settings, environ)


def events_secret(settings: EventsSettings, environ: Mapping[str, str]) -> str | None:
    """Find the secret of the events: ``secret_file`` or systemd's credentials; None where neither is there.

    Raises:
        ConfigurationError: its file can't be read or is readable by everybody, or the secret is too short.
    """
    return _found(_declared("events"), settings, environ)


def metrics_token(settings: MetricsSettings, environ: Mapping[str, str]) -> str | None:
    """Find the token for the metrics in the same places as :func:`events_secret`; raises what that does."""
    return _found(_declared("metrics"), settings, environ)


def database_password(settings: StateSettings, environ: Mapping[str, str]) -> str | None:
    """Find the password of the shared database: environment, ``password_file``, or systemd's credentials.

    None where none of them is there: PostgreSQL has ways to do without.

    Raises:
        ConfigurationError: its file can't be read or is readable by everybody.
    """
    return _found(_declared("state"), settings, environ)


def redis_password(settings: RedisSettings, environ: Mapping[str, str]) -> str | None:
    """Find the password of the shared counters in the same places; None where none of them is there."""
    return _found(_declared("redis"), settings, environ) if settings.url else None


def origin_of_secret(setting: Setting, file: Path | None, environ: Mapping[str, str]) -> Origin | None:
    """Where the secret of a setting would be taken from, which names this ``file``; None where there is none.

    The secret isn't read.
    """
    secret = secret_of(setting)
    if secret.variable and environ.get(secret.variable):
        return Origin(variable=secret.variable)
    if file is not None:
        return Origin(file)
    credential = Path(environ.get("CREDENTIALS_DIRECTORY") or "/nowhere") / secret.credential
    return Origin(credential) if credential.is_file() else None


def _needed(setting: Setting, settings: object, environ: Mapping[str, str]) -> str:
    found = _found(setting, settings, environ)
    if found is None:
        secret = secret_of(setting)
        raise ConfigurationError(
            "no password is set",
            advice='set {key} in [{section}], ${variable}, or the systemd credential "{credential}"',
            setting=setting.key,
            code="secret-missing",
            values={
                "key": setting.name,
                "section": setting.section,
                "variable": secret.variable,
                "credential": secret.credential,
            },
        )
    return found


def _found(setting: Setting, settings: object, environ: Mapping[str, str]) -> str | None:
    """The environment's, or what the configured file holds, or systemd's credential; None where none of them is."""
    secret = secret_of(setting)
    if secret.variable and environ.get(secret.variable):
        return _text(setting, environ[secret.variable])
    found = _from_file(setting, getattr(settings, setting.name), environ)
    if found is not None and len(found) < secret.shortest:
        raise ConfigurationError(
            "the secret of [{section}] is too short: it takes {shortest} characters",
            advice="`openssl rand -hex 24` makes one",
            setting=setting.key,
            code="secret-too-short",
            values={"section": setting.section, "shortest": secret.shortest},
        )
    return found


def _text(setting: Setting, value: str) -> str:
    """The value of the variable: what isn't UTF-8 in the environment comes as half letters, which can't be sent."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError(
            "the password in ${variable} is not UTF-8 text",
            advice="set the variable anew",
            setting=setting.key,
            code="secret-not-text",
            values={"variable": secret_of(setting).variable},
        ) from None
    return value


def _from_file(setting: Setting, file: Path | None, environ: Mapping[str, str]) -> str | None:
    if file is not None:
        return _secret_in(setting, file, must_be_private=True)
    if environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(environ["CREDENTIALS_DIRECTORY"]) / secret_of(setting).credential
        if credential.is_file():
            return _secret_in(setting, credential, must_be_private=False)
    return None


def _secret_in(setting: Setting, path: Path, *, must_be_private: bool) -> str:
    where = {"path": path}
    try:
        with path.open(encoding="utf-8") as stream:
            # The very file that is read, whatever has that name by now.
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if must_be_private and mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigurationError(
                    "the secret file {path} is open to everybody",
                    advice="chmod 600 {path}",
                    setting=setting.key,
                    code="secret-file-open",
                    values=where,
                )
            text = stream.read(4096).rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(
            "the secret file {path} cannot be read: {reason}",
            advice="let this user read the file, or name another file",
            setting=setting.key,
            code="secret-file-not-read",
            values={**where, "reason": system_reason(error)},
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            "the secret file {path} is not UTF-8 text",
            advice="write the file anew",
            setting=setting.key,
            code="secret-file-not-text",
            values=where,
        ) from error
    if not text:
        raise ConfigurationError(
            "the secret file {path} is empty",
            advice="write the password or secret into the file, alone on one line",
            setting=setting.key,
            code="secret-file-empty",
            values=where,
        )
    return text
