"""The login session."""

from dataclasses import dataclass, field
from typing import Final


class Token:
    """The type of :data:`TOKEN`."""


TOKEN: Final = Token()
"""Stands for the session's token among the parameters of a call."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """A service account's user name or barcode, and its password."""

    username: str | None = None
    barcode: str | None = None
    password: str = field(repr=False)
    workstation: str | None = None
    login_type: str = "staff"
