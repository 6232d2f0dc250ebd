"""A Redis or Valkey server where several machines share their rate-limit counters: its address and a check."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.message import own_pip

if TYPE_CHECKING:
    from limits.storage import RedisStorage

_SECONDS_TO_ANSWER = 1.0


def counter_store(url: str, password: str | None) -> RedisStorage:
    """Return the store at ``url`` (``redis://host:port/number``, or ``rediss``, ``valkey``), without connecting yet.

    Raises:
        ConfigurationError: the address is malformed or contains a password, or the client library isn't installed.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("redis", "rediss", "valkey", "valkeys"):
        raise _not_an_address()
    if ":" in rest.rpartition("@")[0] or "password" in parse_qs(urlsplit(url).query):
        raise ConfigurationError(
            "[{section}] {key} contains a password",
            advice="put it in a file that only this user can read, and set {file} to its path",
            setting="redis.url",
            code="redis-password-in-address",
            values={"section": "redis", "key": "url", "file": "password_file"},
        )
    try:
        from limits.errors import ConfigurationError as NotInstalledError
        from limits.storage import RedisStorage
    except ImportError as error:
        raise _not_installed() from error
    try:
        store = RedisStorage(
            f"{scheme.replace('valkey', 'redis')}://{rest}",
            wrap_exceptions=True,
            socket_timeout=_SECONDS_TO_ANSWER,
            socket_connect_timeout=_SECONDS_TO_ANSWER,
            password=password or "",
        )
        # Make a connection object now, so that an unknown option in the address fails here and not in each request.
        store.storage.connection_pool.make_connection()
    except NotInstalledError as error:
        raise _not_installed() from error
    except (ValueError, TypeError):
        raise _not_an_address() from None
    return store


def check_counter_store(url: str, password: str | None) -> None:
    """Verify that the store answers and accepts the password, without counting anything.

    Raises:
        ConfigurationError: see :func:`counter_store`; or the store refuses the user or the password.
        StateError: the store can't be reached.
    """
    store = counter_store(url, password)
    from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError

    # Report only the kind of an error: its text may contain the user name.
    try:
        store.storage.ping()
    except (AuthenticationError, AuthorizationError, NoPermissionError):
        raise ConfigurationError(
            "{where} refused the user or password",
            advice="check url and password_file in [redis]",
            setting="redis.password_file",
            code="redis-login-refused",
            values={"where": counter_host(url)},
        ) from None
    except (RedisError, OSError) as error:
        raise StateError(
            "{where} can't be used ({kind})",
            advice="check that it is running, and url in [redis]; until then, each process counts separately",
            setting="redis.url",
            code="redis-unusable",
            values={"where": counter_host(url), "kind": type(error).__name__},
        ) from None
    finally:
        store.storage.close()


def counter_host(url: str) -> str:
    """Return the host and port of an address, for messages. The rest may contain a user name."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _not_installed() -> ConfigurationError:
    return ConfigurationError(
        "{package} isn't installed",
        advice="{pip} install 'evergreen-groups[{extra}]'",
        setting="redis.url",
        code="redis-not-installed",
        values={"package": "redis", "pip": own_pip(), "extra": "serve,redis"},
    )


def _not_an_address() -> ConfigurationError:
    return ConfigurationError(
        "[{section}] {key} isn't a valid address",
        advice="write it as {example}",
        setting="redis.url",
        code="redis-address-wrong",
        values={"section": "redis", "key": "url", "example": '"redis://host:6379/1"'},
    )
