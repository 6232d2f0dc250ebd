"""What a call gave, and that it has the shape which is due."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from evergreen_groups.errors import UnexpectedAnswerError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.gateway.call import Call
    from evergreen_groups.gateway.redaction import Beginning

Shape = TypeVar("Shape")
Expect = Literal["one", "optional", "many"]
"""How many results a method promises: exactly one, one or nothing (``null`` isn't sent), or any number."""


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What a call gave.

    ``value`` is the result itself (``expect="one"``), the result or None (``"optional"``), or the list of all
    results (``"many"``), in wire form: numbers with a point are ``Decimal``, fieldmapper objects are not decoded yet.
    ``size`` is the answer's length in bytes; ``call`` is what was asked.
    """

    value: Any
    beginning: Beginning
    size: int
    call: Call

    def __repr__(self) -> str:
        return f"Result({self.size} bytes)"

    @property
    def raw(self) -> str:
        """The beginning of the answer's text, with tokens blanked."""
        return str(self.beginning)

    def listing(self) -> list[Any]:
        """The value, which has to be a list: of nothing else can one say that something isn't in it.

        Raises:
            UnexpectedAnswerError: it is something else.
        """
        return self._of(list, Message("a list"))

    def mapping(self) -> dict[str, Any]:
        """The value, which has to be a hash.

        Raises:
            UnexpectedAnswerError: it is something else.
        """
        return self._of(dict, Message("a hash"))

    def _of(self, kind: type[Shape], due: Message) -> Shape:
        if not isinstance(self.value, kind):
            raise self.unexpected(due)
        return self.value

    @contextmanager
    def understood(self, due: Message) -> Iterator[None]:
        """Take what goes wrong in the block, where the value is read, for a value of another shape than ``due``.

        Raises:
            UnexpectedAnswerError: its shape is another one.
        """
        try:
            yield
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
            raise self.unexpected(due) from None

    def unexpected(self, due: Message) -> UnexpectedAnswerError:
        """The error for a value of another shape than is ``due``."""
        return UnexpectedAnswerError(
            "the answer has another shape than Evergreen's; expected: {due}",
            advice="look at the server's release, and into its log",
            code="answer-of-another-shape",
            values={"due": due},
            raw=self.raw,
            **self.call.names,
        )
