"""What a kind of value is: what it takes, and how it is read into its real type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


class NotAllowedError(ValueError):
    """A value that a setting doesn't take; ``allowed`` says what is allowed, as a text of the catalogue."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Kind(Generic[Value]):
    """A kind of value.

    ``name`` stands for it in ``--help``; ``allowed`` says what it takes, after "it takes"; ``read`` gives the value in
    its real type, or raises ValueError, or NotAllowedError to say more. ``choices`` are the words, where it is one of
    some; ``several``: an option of it may be repeated; ``empty`` is how TOML writes that there is nothing in it.

    >>> Kind("number", "a whole number", lambda value: int(str(value)))("60")
    60
    """

    name: str
    allowed: str
    read: Callable[[object], Value]
    choices: tuple[str, ...] = ()
    several: bool = False
    empty: str = "[]"

    def __call__(self, value: object) -> Value:
        """The value in its real type.

        Raises:
            NotAllowedError: it isn't allowed; the message says what is.
        """
        try:
            return self.read(value)
        except NotAllowedError:
            raise
        except (ValueError, ArithmeticError):
            raise NotAllowedError(self.allowed) from None
