"""A file that was written for an installation, and is known again as long as nobody has changed it.

Its first line has a checksum of the rest. Nothing else remembers what was written: a list in the state directory could
be changed by the service's user, and root would act on it.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from hashlib import sha256
from pathlib import Path

from evergreen_groups.state import write_atomically, writing_in

_FIRST_LINE = '# By "evergreen-groups install", which leaves it alone once it is changed: {digest}\n'
_PATTERN = re.compile(_FIRST_LINE.format(digest="([0-9a-f]{32})"))
_READABLE = 0o644


class FileCondition(Enum):
    """What is there in the place of a file that is to be written."""

    ABSENT = "absent"
    OURS = "ours"
    """As it was written."""
    CHANGED = "changed"
    """By somebody, or never written by this program."""


def marked(text: str) -> str:
    """A text with the line before it by which it is known again.

    >>> condition_of(marked("a = 1\\n")), condition_of("a = 1\\n")
    (<FileCondition.OURS: 'ours'>, <FileCondition.CHANGED: 'changed'>)
    """
    return _FIRST_LINE.format(digest=_digest(text)) + text


def unmarked(text: str) -> str:
    """The text without that line."""
    return _PATTERN.sub("", text, count=1) if _PATTERN.match(text) else text


def condition_of(text: str | None) -> FileCondition:
    """Whether a text, None for no file, is as it was written."""
    if text is None:
        return FileCondition.ABSENT
    found = _PATTERN.match(text)
    if found is None or found[1] != _digest(text[found.end() :]):
        return FileCondition.CHANGED
    return FileCondition.OURS


def read_installed(path: Path) -> str | None:
    """What is in a file, None where there is none; a link, or what isn't text, is nothing that this program wrote.

    Raises:
        OSError: it can't be read.
    """
    if not os.path.lexists(path):
        return None
    if path.is_symlink() or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def write_installed(path: Path, text: str) -> None:
    """Write a file that everybody may read, whole or not at all, and its directory where there is none.

    Raises:
        ConfigurationError: it can't be written.
    """
    with writing_in(path.parent):
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with write_atomically(path) as stream:
        stream.write(marked(text))
        os.fchmod(stream.fileno(), _READABLE)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
