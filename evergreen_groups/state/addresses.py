"""Addresses of servers in the settings: of the PostgreSQL database, and of the store for shared counters."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import own_pip

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SECRETS = ("password", "sslpassword")


def postgresql_url(text: str, password: str | None) -> URL:
    """Return the database URL for an address in the settings, with the password from its file or variable."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    url = None
    with suppress(ArgumentError, ValueError):  # ValueError: the port isn't a number
        url = make_url(text)
    if url is None or url.get_backend_name() != "postgresql":
        example = '"postgresql+psycopg://user@host/name"'
        raise not_an_address("state.database", example, code="database-address-wrong")
    if url.password is not None or any(name in url.query for name in _SECRETS):
        raise password_in_address("state.database", code="database-password-in-address")
    return url.set(drivername="postgresql+psycopg", password=password)


def counter_host(url: str) -> str:
    """Return the host and port of an address, for messages. The rest may contain a user name."""
    return urlsplit(url).netloc.rpartition("@")[2]


def not_an_address(setting: str, example: str, *, code: str) -> ConfigurationError:
    section, key = setting.split(".")
    return ConfigurationError(
        "[{section}] {key} isn't a valid address",
        advice="write it as {example}",
        setting=setting,
        code=code,
        values={"section": section, "key": key, "example": example},
    )


def password_in_address(setting: str, *, code: str) -> ConfigurationError:
    section, key = setting.split(".")
    return ConfigurationError(
        "[{section}] {key} contains a password",
        advice="put it in a file that only this user can read, and set {file} to its path",
        setting=setting,
        code=code,
        values={"section": section, "key": key, "file": "password_file"},
    )


def not_installed(setting: str, package: str, extra: str, *, code: str) -> ConfigurationError:
    return ConfigurationError(
        "{package} isn't installed",
        advice="{pip} install 'evergreen-groups[{extra}]'",
        setting=setting,
        code=code,
        values={"package": package, "pip": own_pip(), "extra": extra},
    )
