"""Releases of Evergreen, as servers name them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# "3-12-10", "3-12" of a branch, "3-11-0-rc1" and "3-9-0RC1" before a release (OpenILS/Application.pm, ils_version).
_NAME = re.compile(r"(\d{1,3})-(\d{1,3})(?:-(\d{1,3}))?(?:-?([A-Za-z][A-Za-z0-9]{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class IlsRelease:
    """A release such as 3.12.10; the ``patch`` is None where only the series is meant.

    Releases of one series are alike in what they can do here, those that come before its first one among them.

    >>> str(IlsRelease(3, 12, 10)), IlsRelease(3, 12, 10).series < IlsRelease(3, 16).series
    ('3.12.10', True)
    """

    major: int
    minor: int
    patch: int | None = None

    @classmethod
    def named(cls, name: str) -> IlsRelease | None:
        """The release that a server names; None for a build from git (``HEAD``), and for what is no release's name.

        >>> IlsRelease.named("3-12-10")
        IlsRelease(major=3, minor=12, patch=10)
        >>> IlsRelease.named("HEAD")
        """
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        major, minor, patch, _suffix = found.groups()
        return cls(int(major), int(minor), None if patch is None else int(patch))

    def __str__(self) -> str:
        numbers = (self.major, self.minor) if self.patch is None else (self.major, self.minor, self.patch)
        return ".".join(map(str, numbers))

    @property
    def series(self) -> tuple[int, int]:
        """Its first two numbers."""
        return self.major, self.minor


OLDEST_RELEASE = IlsRelease(3, 11)
"""The first that recalculates penalties at a patron's home library (Evergreen's commit 20a752e24f)."""
