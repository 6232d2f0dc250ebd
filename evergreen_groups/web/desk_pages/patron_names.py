"""The names of patrons and staff that a page needs, each asked for once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.client import Client

_NOBODY: Mapping[int, str] = MappingProxyType({})


class PatronNames:
    """Names by id of those who are visible; of those ``asked`` for before, all that are visible are ``known``."""

    def __init__(self, client: Client, known: Mapping[int, str] = _NOBODY, asked: Collection[int] = ()) -> None:
        self._client = client
        self._asked = {*known, *asked}
        self.known = dict(known)

    def read(self, ids: Collection[int]) -> None:
        """Ask for those who haven't been asked for, deleted ones too; one call, or none."""
        new = set(ids) - self._asked
        if new:
            self.known |= self._client.patrons.names(new)
            self._asked |= new

    def visible(self, ids: Collection[int]) -> set[int]:
        """Those of the ids whose patrons are visible; costs what :meth:`read` does."""
        self.read(ids)
        return {id for id in ids if id in self.known}
