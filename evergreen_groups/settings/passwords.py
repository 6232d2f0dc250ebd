"""Finds passwords and other secrets: in the environment, in files, or in systemd credentials."""

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
    """Return the declaration of the secret whose file a setting names.

    Raises:
        LookupError: the setting names no secret's file.
    """
    if setting.secret is None:
        raise LookupError(setting.key)
    return setting.secret


def _secret_setting(section: str) -> Setting:
    """Return the setting that names the file of a section's secret."""
    return next(setting for setting in declared_sections(Settings)[section] if setting.secret is not None)


PASSWORD_VARIABLE, MAIL_PASSWORD_VARIABLE = (
    str(secret_of(_secret_setting(name)).variable) for name in ("gateway", "mail")
)


def password(settings: GatewaySettings, environ: Mapping[str, str]) -> str:
    """Return the service account's password from the environment, ``password_file``, or a systemd credential.

    Raises:
        ConfigurationError: there is no password, or its file can't be read or is readable by everyone.
    """
    return _require(_secret_setting("gateway"), settings, environ)


def mail_password(settings: MailSettings, environ: Mapping[str, str]) -> str:
    """Return the mail server's password from the same sources as :func:`password`. Raises the same errors."""
    return _require(_secret_setting("mail"), settings, environ)


def events_secret(settings: EventsSettings, environ: Mapping[str, str]) -> str | None:
    """Return the secret for events from ``secret_file`` or a systemd credential; None if neither exists.

    Raises:
        ConfigurationError: the file can't be read or is readable by everyone, or the secret is too short.
    """
    return _find(_secret_setting("events"), settings, environ)


def metrics_token(settings: MetricsSettings, environ: Mapping[str, str]) -> str | None:
    """Return the token for metrics from the same sources as :func:`events_secret`. Raises the same errors."""
    return _find(_secret_setting("metrics"), settings, environ)


def database_password(settings: StateSettings, environ: Mapping[str, str]) -> str | None:
    """Return the shared database's password from the environment, ``password_file``, or a systemd credential.

    None if there is none: PostgreSQL has ways to log in without a password.

    Raises:
        ConfigurationError: the file can't be read or is readable by everyone.
    """
    return _find(_secret_setting("state"), settings, environ)


def redis_password(settings: RedisSettings, environ: Mapping[str, str]) -> str | None:
    """Return the Redis server's password from the same sources as :func:`database_password`, or None."""
    return _find(_secret_setting("redis"), settings, environ) if settings.url else None


def origin_of_secret(setting: Setting, file: Path | None, environ: Mapping[str, str]) -> Origin | None:
    """Return where a setting's secret would come from, without reading it; None if there is none.

    ``file`` is the setting's value.
    """
    secret = secret_of(setting)
    if secret.variable and environ.get(secret.variable):
        return Origin(variable=secret.variable)
    if file is not None:
        return Origin(file)
    credential = Path(environ.get("CREDENTIALS_DIRECTORY") or "/nowhere") / secret.credential
    return Origin(credential) if credential.is_file() else None


def _require(setting: Setting, settings: object, environ: Mapping[str, str]) -> str:
    found = _find(setting, settings, environ)
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


def _find(setting: Setting, settings: object, environ: Mapping[str, str]) -> str | None:
    """Return the secret from the environment, the configured file, or the systemd credential; None if none exists."""
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
    """Check a variable's value. Bytes that aren't UTF-8 arrive as lone surrogates, which can't be sent."""
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
        return _read_secret_file(setting, file, must_be_private=True)
    if environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(environ["CREDENTIALS_DIRECTORY"]) / secret_of(setting).credential
        if credential.is_file():
            return _read_secret_file(setting, credential, must_be_private=False)
    return None


def _read_secret_file(setting: Setting, path: Path, *, must_be_private: bool) -> str:
    where = {"path": path}
    try:
        with path.open(encoding="utf-8") as stream:
            # Check the open file rather than the path, which could be replaced in between.
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
