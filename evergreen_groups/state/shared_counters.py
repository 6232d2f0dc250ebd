"""A Redis or Valkey server where several machines share their rate-limit counters, and a check of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.state.addresses import counter_host, not_an_address, not_installed, password_in_address

if TYPE_CHECKING:
    from limits.storage import RedisStorage

_SETTING = "redis.url"
_EXAMPLE = '"redis://host:6379/1"'
_SECONDS_TO_ANSWER = 1.0


def counter_store(url: str, password: str | None) -> RedisStorage:
    """Return the store at ``url`` (``redis://host:port/number``, or ``rediss``, ``valkey``), without connecting yet.

    Raises:
        ConfigurationError: the address is malformed or contains a password, or the client library isn't installed.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("redis", "rediss", "valkey", "valkeys"):
        raise not_an_address(_SETTING, _EXAMPLE, code="redis-address-wrong")
    if ":" in rest.rpartition("@")[0] or "password" in parse_qs(urlsplit(url).query):
        raise password_in_address(_SETTING, code="redis-password-in-address")
    try:
        from limits.errors import ConfigurationError as NotInstalledError
        from limits.storage import RedisStorage
    except ImportError as error:
        raise not_installed(_SETTING, "redis", "serve,redis", code="redis-not-installed") from error
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
        raise not_installed(_SETTING, "redis", "serve,redis", code="redis-not-installed") from error
    except (ValueError, TypeError):
        raise not_an_address(_SETTING, _EXAMPLE, code="redis-address-wrong") from None
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
            setting=_SETTING,
            code="redis-unusable",
            values={"where": counter_host(url), "kind": type(error).__name__},
        ) from None
    finally:
        store.storage.close()
