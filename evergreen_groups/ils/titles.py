"""Titles of items: what nobody reads who doesn't have to show them."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from evergreen_groups.gateway import Gateway

_NOT_CATALOGED = -1
"""The call number that all items have which aren't cataloged (``-1`` in every Evergreen)."""
_ISBD = " /:;,="
"""What a cataloger's title ends with where more follows it on the card."""


def read_titles(gateway: Gateway, copies: Collection[int]) -> dict[int, str]:
    """The titles of items by the items' ids (``acp.id``); an item without one isn't there.

    Three calls for up to 3,000 items, one for each table (``items-007``, ``items-008``, ``items-009``): fleshing would
    be three queries for each item in the ILS.
    All three are public in Evergreen (``permacrud`` of ``acp``, ``acn`` and ``rmsr`` in its ``fm_IDL.xml``); who may
    know what somebody has out is decided where circulations are read. What isn't cataloged yet has a title of its own
    (``dummy_title``).
    """
    if not copies:
        return {}
    fields = ("id", "call_number", "dummy_title")
    items = {id: rest for id, *rest in _rows(gateway, "acp", fields, copies)}
    volumes = {volume for volume, _dummy in items.values()} - {_NOT_CATALOGED}
    records = dict(_rows(gateway, "acn", ("id", "record"), volumes)) if volumes else {}
    titles = dict(_rows(gateway, "rmsr", ("id", "title"), {*records.values()})) if records else {}
    # As the staff client says it (circ.service.ts): an item that was cataloged later keeps its former title beside.
    found = {
        id: dummy if volume == _NOT_CATALOGED else titles.get(records.get(volume))
        for id, (volume, dummy) in items.items()
    }
    return {id: title.rstrip(_ISBD) for id, title in found.items() if title}


def _rows(gateway: Gateway, class_id: str, fields: tuple[str, ...], ids: Collection[int]) -> chain[tuple[Any, ...]]:
    return chain.from_iterable(gateway.pcrud.columns_by_values(class_id, fields, "id", sorted(ids)))
