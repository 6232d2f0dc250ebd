r"""Draw a flowchart of arrows that point down, for the site; repository hosts render the same text themselves.

    room_picture.draw("flowchart TD\n    cli --> web\n    web --> hooks\n")

It needs no external script and uses the page's colors, light or dark. Each node is one layer below the lowest node with
an arrow to it; within a layer, connected nodes are placed near each other.
"""

from __future__ import annotations

import re
from html import escape

LAYER, WIDTH, HEIGHT, GAP = 66, 96, 28, 60
_MIDDLES = 8
"""Rounds that improve the order within layers; more don't help."""


def draw(flowchart: str) -> str:
    """Return the flowchart as SVG in HTML, all on one line, so that Markdown leaves it alone."""
    arrows = re.findall(r"^ +(\w+) --> (\w+)$", flowchart, re.MULTILINE)
    layers = _layers(arrows)
    places = _places(layers, arrows)
    across = max(len(layer) for layer in layers) * (WIDTH + GAP)
    down = len(layers) * LAYER
    lines = "".join(_line(places[begin], places[end]) for begin, end in arrows)
    boxes = "".join(_box(name, place) for name, place in places.items())
    return (
        f'<div class="rooms" style="max-width: {across}px">'
        f'<svg viewBox="0 0 {across} {down}" role="img" aria-label="Which room may import which">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z"/></marker></defs>{lines}{boxes}</svg></div>\n'
    )


def _layers(arrows: list[tuple[str, str]]) -> list[list[str]]:
    """Return the nodes in layers, by the longest path of arrows to them."""
    depth = {name: 0 for arrow in arrows for name in arrow}
    for _ in depth:
        for begin, end in arrows:
            depth[end] = max(depth[end], depth[begin] + 1)
    return [[name for name in depth if depth[name] == layer] for layer in range(max(depth.values()) + 1)]


def _places(layers: list[list[str]], arrows: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
    """Return the center of each node."""
    most = max(len(layer) for layer in layers)
    across: dict[str, float] = {}
    for _ in range(_MIDDLES):
        for layer in layers:
            layer.sort(key=lambda name: _middle(name, arrows, across))
            for place, name in enumerate(layer):
                across[name] = (place + 0.5 + (most - len(layer)) / 2) * (WIDTH + GAP)
    return {name: (across[name], row * LAYER + LAYER / 2) for row, layer in enumerate(layers) for name in layer}


def _middle(name: str, arrows: list[tuple[str, str]], across: dict[str, float]) -> float:
    near = [across[one] for arrow in arrows for one in arrow if name in arrow and one != name and one in across]
    return sum(near) / len(near) if near else 0.0


def _line(begin: tuple[float, float], end: tuple[float, float]) -> str:
    """Return the line from the lower edge of a box to the upper edge of another.

    A long one curves around boxes between.
    """
    (x1, y1), (x2, y2) = begin, end
    y1, y2 = y1 + HEIGHT / 2, y2 - HEIGHT / 2
    aside = 0.0 if y2 - y1 < LAYER else (WIDTH * 0.9 if x2 >= x1 else -WIDTH * 0.9)
    middle = (y2 - y1) / 2
    bend = f"{x1 + aside:.0f} {y1 + middle:.0f} {x2 + aside:.0f} {y2 - middle:.0f}"
    return f'<path d="M{x1:.0f} {y1:.0f}C{bend} {x2:.0f} {y2:.0f}"/>'


def _box(name: str, place: tuple[float, float]) -> str:
    x, y = place
    return (
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}">{escape(name)}</text>'
    )
