"""Finds passwords and other secrets: in the environment, in files, or in systemd credentials."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import system_reason
from evergreen_groups.settings.declaration import declared_in
from evergreen_groups.settings.reading import Origin
from evergreen_groups.settings.sections import GatewaySettings, Settings

if TYPE_CHECKING:
    from evergreen_groups.settings.declaration import Secret, Setting


def secret_of(setting: Setting) -> Secret:
    """Return the declaration of the secret whose file a setting names."""
    if setting.secret is None:
        raise LookupError(setting.key)
    return setting.secret


def _secret_setting(settings: object) -> Setting:
    """Return the setting that names the file of a section's secret."""
    (section,) = (part.name for part in fields(Settings) if part.default_factory is type(settings))
    return next(setting for setting in declared_in(section, type(settings)) if setting.secret is not None)


PASSWORD_VARIABLE = str(secret_of(_secret_setting(GatewaySettings())).variable)
"""The variable with the service account's password."""


def password(settings: object, environ: Mapping[str, str]) -> str:
    """Return the service account's or the mail server's password. Comes from the same sources as :func:`secret`."""
    found = secret(settings, environ)
    if found is None:
        setting = _secret_setting(settings)
        declared = secret_of(setting)
        raise ConfigurationError(
            "no password is set",
            advice='set {key} in [{section}], ${variable}, or the systemd credential "{credential}"',
            setting=setting.key,
            code="secret-missing",
            values={
                "key": setting.name,
                "section": setting.section,
                "variable": declared.variable,
                "credential": declared.credential,
            },
        )
    return found


def secret(settings: object, environ: Mapping[str, str]) -> str | None:
    """Return a section's secret from the environment, its file, or a systemd credential; None if there is none.

    PostgreSQL has ways to log in without a password, and events and metrics are optional.

    Raises:
        ConfigurationError: the file can't be read or is readable by everyone, or the secret is too short.
    """
    setting = _secret_setting(settings)
    declared = secret_of(setting)
    file: Path | None = getattr(settings, setting.name)
    place = origin_of_secret(setting, file, environ)
    if place is None:
        return None
    if place.variable is not None:
        # Bytes that aren't UTF-8 arrive as lone surrogates, which can't be sent.
        try:
            environ[place.variable].encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigurationError(
                "{where} isn't UTF-8 text", setting=setting.key, code="secret-not-text", values={"where": str(place)}
            ) from None
        return environ[place.variable]
    found = _read_secret_file(setting, place.path or Path(), must_be_private=file is not None)
    if len(found) < declared.shortest:
        raise ConfigurationError(
            "the secret of [{section}] must have at least {shortest} characters",
            advice="create one with `openssl rand -hex 24`",
            setting=setting.key,
            code="secret-too-short",
            values={"section": setting.section, "shortest": declared.shortest},
        )
    return found


def origin_of_secret(setting: Setting, file: Path | None, environ: Mapping[str, str]) -> Origin | None:
    """Return where a setting's secret would come from, without reading it; None if there is none.

    ``file`` is the setting's value.
    """
    declared = secret_of(setting)
    if declared.variable and environ.get(declared.variable):
        return Origin(variable=declared.variable)
    if file is not None:
        return Origin(file)
    credential = Path(environ.get("CREDENTIALS_DIRECTORY") or "/nowhere") / declared.credential
    return Origin(credential) if credential.is_file() else None


def _read_secret_file(setting: Setting, path: Path, *, must_be_private: bool) -> str:
    where = {"path": path}
    try:
        with path.open(encoding="utf-8") as stream:
            # Check the open file rather than the path, which could be replaced in between.
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if must_be_private and mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigurationError(
                    "other users have access to {path}",
                    advice="chmod 600 {path}",
                    setting=setting.key,
                    code="secret-file-open",
                    values=where,
                )
            text = stream.read(4096).rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(
            "cannot read {path}: {reason}",
            advice="check that it exists and that this user may read it",
            setting=setting.key,
            code="secret-file-not-read",
            values={**where, "reason": system_reason(error)},
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            "{where} isn't UTF-8 text", setting=setting.key, code="secret-file-not-text", values={"where": path}
        ) from error
    if not text:
        raise ConfigurationError(
            "{path} is empty",
            advice="put the password or secret in the file, on one line",
            setting=setting.key,
            code="secret-file-empty",
            values=where,
        )
    return text
