"""The org unit tree and the profile tree, as Evergreen's SQL functions walk them."""

from __future__ import annotations

from collections.abc import Iterable


class Tree:
    """A tree of ids, built from pairs of id and parent id (None at the root).

    Walks include the id they start from. An unknown id has no ancestors and no descendants.
    """

    def __init__(self, parents: Iterable[tuple[int, int | None]]) -> None:
        self._parent = dict(parents)
        self._children: dict[int | None, list[int]] = {}
        for node, parent in self._parent.items():
            self._children.setdefault(parent, []).append(node)

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids of the tree."""
        return tuple(self._parent)

    @property
    def root(self) -> int:
        """The root's id; the first one if there are several roots."""
        return self._children[None][0]

    def children(self, node: int) -> tuple[int, ...]:
        """Return the ids directly below, in the order of the rows."""
        return tuple(self._children.get(node, ()))

    def upwards(self, node: int | None) -> list[int]:
        """Return the id and its ancestors, nearest first."""
        path: list[int] = []
        while node is not None and node in self._parent and node not in path:
            path.append(node)
            node = self._parent[node]
        return path

    def ancestors(self, node: int | None) -> list[int]:
        """Return the ancestors, root first, and the id (``actor.org_unit_ancestors``)."""
        return self.upwards(node)[::-1]

    def descendants(self, node: int | None) -> list[int]:
        """Return the id and everything below, parents before their children."""
        if node is None or node not in self._parent:
            return []
        found = [node]
        for current in found:
            found.extend(self._children.get(current, ()))
        return found

    def full_path(self, node: int | None) -> list[int]:
        """Return ancestors, the id, and descendants (``actor.org_unit_full_path``)."""
        return self.ancestors(node) + self.descendants(node)[1:]


class OrgTree(Tree):
    """The org units with the depths of their types (``aout.depth``)."""

    def __init__(self, parents: Iterable[tuple[int, int | None]], depths: dict[int, int]) -> None:
        super().__init__(parents)
        self._depths = depths

    def depth(self, org_unit: int) -> int | None:
        """Return the depth of the org unit's type; None for an unknown org unit."""
        return self._depths.get(org_unit)

    def ancestor_at_depth(self, org_unit: int | None, depth: int) -> int | None:
        """Return the ancestor whose type has the depth (``actor.org_unit_ancestor_at_depth``), or None."""
        return next((node for node in self.upwards(org_unit) if self._depths[node] == depth), None)

    def descendants_of_depth(self, org_unit: int | None, depth: int) -> list[int]:
        """Return the ancestor at a depth and everything below (``actor.org_unit_descendants`` with a depth)."""
        return self.descendants(self.ancestor_at_depth(org_unit, depth))
