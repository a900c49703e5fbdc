"""How far trials got, as a Sankey diagram (Fig. 11 of the paper): SVG text for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from html import escape
from itertools import pairwise
from typing import Final

# px
_WIDTH: Final = 1000
_TOP: Final = 34
_HEIGHT: Final = 150  # of all trials together
_GAP: Final = 26  # between the trials that reached a mark and those that missed it
_LEFT: Final = 30
_RIGHT: Final = 70
_NODE: Final = 12  # width

_REACHED: Final = "#2b8a3e"
_MISSED: Final = "#c92a2a"

#: A place in the diagram: the number of the mark (0 is the start), and whether it was reached.
Node = tuple[int, bool]


def paths(marks: Sequence[str], trials: Sequence[Collection[str]]) -> list[list[Node]]:
    """The way of each trial: it ends at the mark that it missed with none reached after it, or at the last mark.

    Args:
      marks: in order.
      trials: of each, the marks that it reached.
    """
    found: list[list[Node]] = []
    for reached in trials:
        furthest = max((i + 1 for i, mark in enumerate(marks) if mark in reached), default=0)
        last = min(furthest + 1, len(marks))
        found.append([(0, True), *((i, marks[i - 1] in reached) for i in range(1, last + 1))])
    return found


def draw(marks: Sequence[str], trials: Sequence[Collection[str]]) -> str:
    """Draw the diagram; empty where there are no trials."""
    if not trials:
        return ""
    ways = paths(marks, trials)
    sizes = Counter(node for way in ways for node in way)
    flows = Counter((a, b) for way in ways for a, b in pairwise(way))
    unit = _HEIGHT / len(trials)
    tops = {(i, ok): _TOP if ok else _TOP + sizes[(i, True)] * unit + _GAP for i, ok in sizes}
    left = {i: _LEFT + i * (_WIDTH - _LEFT - _RIGHT) / len(marks) for i in range(len(marks) + 1)}
    names = ["start", *marks]
    parts = [*_flows(flows, tops, left, unit, names), *_nodes(sizes, tops, left, unit, names)]
    height = _TOP + _HEIGHT + _GAP + 10
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" font-size="13">{"".join(parts)}</svg>'


def _flows(
    flows: Counter[tuple[Node, Node]],
    tops: dict[Node, float],
    left: dict[int, float],
    unit: float,
    names: Sequence[str],
) -> list[str]:
    out, into = dict(tops), dict(tops)
    parts = []
    # from top to bottom, so that no two cross within a node
    for (a, b), count in sorted(flows.items(), key=lambda item: (item[0][0][0], not item[0][0][1], not item[0][1][1])):
        (x0, x1), (y0, y1), width = (left[a[0]] + _NODE, left[b[0]]), (out[a], into[b]), count * unit
        out[a], into[b] = y0 + width, y1 + width
        half = (x0 + x1) / 2
        path = (
            f"M{x0:.1f} {y0:.1f}C{half:.1f} {y0:.1f} {half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
            f"V{y1 + width:.1f}C{half:.1f} {y1 + width:.1f} {half:.1f} {y0 + width:.1f} {x0:.1f} {y0 + width:.1f}Z"
        )
        title = f"{names[a[0]]} to {'' if b[1] else 'no '}{names[b[0]]}: {count}"
        colour = _REACHED if b[1] else _MISSED
        parts.append(f'<path d="{path}" fill="{colour}" fill-opacity="0.22"><title>{escape(title)}</title></path>')
    return parts


def _nodes(
    sizes: Counter[Node], tops: dict[Node, float], left: dict[int, float], unit: float, names: Sequence[str]
) -> list[str]:
    parts = []
    for i, name in enumerate(names):
        middle = left[i] + _NODE / 2
        parts.append(f'<text x="{middle:.1f}" y="16" text-anchor="middle" font-weight="600">{escape(name)}</text>')
    for (i, reached), count in sorted(sizes.items()):
        top, height = tops[i, reached], count * unit
        colour, word = (_REACHED, "") if reached else (_MISSED, " missed")
        parts.append(
            f'<rect x="{left[i]:.1f}" y="{top:.1f}" width="{_NODE}" height="{height:.1f}" rx="2" fill="{colour}"/>'
            f'<text x="{left[i] + _NODE + 4:.1f}" y="{top + height / 2 + 4:.1f}">{count}{word}</text>'
        )
    return parts
