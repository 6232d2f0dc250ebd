"""Blanking tokens and passwords in text that people may get to see."""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote

RAW_LENGTH = 4000
"""How many characters of an answer stay reachable as ``raw``."""

_LONGEST_SECRET = 200
# A secret may lie across the place where the text is cut (up to three times as long in a form): more is blanked than
# is kept.
_MARGIN = 3 * _LONGEST_SECRET
# Evergreen's tokens are MD5 digests in hexadecimal (oils_auth.c); any value called authtoken is one as well.
_TOKEN_LIKE = re.compile(
    r'(?i)(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|(?<="authtoken":")[^"]+|(?<=bad auth token: )[^"\s]+'
)


class Redactor:
    """Knows the secrets of one gateway's sessions, and blanks them. Safe to share between threads."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Redactor()"

    def learn(self, secret: str) -> None:
        """Blank ``secret`` from now on, also as it looks inside JSON and in a form."""
        forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")} - {""}
        with self._lock:
            self._secrets |= forms

    def blank(self, text: str) -> str:
        """Return ``text`` with every secret, and everything that looks like a token, written as asterisks.

        The length stays the same, so that text cut afterwards can't end in half a secret.
        """
        # The longer first, for one may be a part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "*" * len(secret))
        return _TOKEN_LIKE.sub(lambda found: "*" * len(found.group()), text)

    def raw(self, body: bytes) -> str:
        """Return the beginning of an answer, safe to keep in an error."""
        return str(self.beginning(body))

    def beginning(self, body: bytes) -> Beginning:
        """The same, blanked only when somebody reads it: of nearly all answers nobody does."""
        return Beginning(self, body[: RAW_LENGTH + _MARGIN])


class Beginning:
    """The beginning of an answer. As text it is safe to keep, and nothing else of it is shown."""

    __slots__ = ("_body", "_redactor")

    def __init__(self, redactor: Redactor, body: bytes) -> None:
        self._redactor = redactor
        self._body = body

    def __str__(self) -> str:
        return self._redactor.blank(self._body.decode("utf-8", "replace"))[:RAW_LENGTH]

    def __repr__(self) -> str:
        return f"Beginning({len(self._body)} bytes)"
