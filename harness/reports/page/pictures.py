"""Masks and histograms as inline SVG, in the page's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from attnspec.harness.mask_pictures import SEEN, Picture
from attnspec.harness.reports.page.elements import Html, element, prose

LARGEST, SQUARE = 220, 18  # pixels of a picture's longer side, and of a key at most
BAR, HEIGHT, AXIS = 10, 34, 12  # pixels of a histogram's bars, of each of its halves, and of its labels
TICKS = (-8, -4, 0)  # the powers of two that are labelled


def mask(picture: Picture) -> Html:
    """Queries downwards, keys to the right; a key that is seen is filled, one that is hidden is an outline."""
    rows, columns = len(picture.lines), max(map(len, picture.lines), default=0)
    side = max(1.0, min(SQUARE, LARGEST / max(rows, columns, 1)))
    width, height = columns * side, rows * side
    filled = "".join(f"M{s} {t}h1v1h-1z" for t, line in enumerate(picture.lines) for s, key in enumerate(line) if key == SEEN)
    grid = "".join(f"M{s} 0v{rows}" for s in range(columns + 1)) + "".join(f"M0 {t}h{columns}" for t in range(rows + 1))
    drawing = element(
        "g",
        element("path", d=filled, class_="seen"),
        element("path", d=grid, class_="grid"),
        transform=f"translate(14 14) scale({side:g})",
    )
    keys = element("text", "keys →", x=14, y=10)
    queries = element("text", "queries ↓", x=-14, y=10, transform="rotate(-90)", text_anchor="end")
    image = _image("mask", _said(picture), width + 16, max(height + 16, 72), keys, queries, drawing)
    about = [element("strong", picture.title), element("span", prose(picture.rule)) if picture.rule else None]
    return element("figure", image, element("figcaption", *about, element("small", picture.where)))


def _said(picture: Picture) -> str:
    seen = sum(line.count(SEEN) for line in picture.lines)
    return f"{picture.title}: {seen} of {sum(map(len, picture.lines))} pairs of query and key are seen"


def histogram(outputs: Sequence[int], gradients: Sequence[int], edges: Sequence[float]) -> Html:
    """Cases by error over bound: outputs upwards, gradients downwards, a line where the bound is."""
    most = max((*outputs, *gradients, 1))
    bars = [_bar(place, count, most, edges, -1) for place, count in enumerate(outputs) if count]
    bars += [_bar(place, count, most, edges, 1) for place, count in enumerate(gradients) if count]
    ticks = [(place, edge) for place, edge in enumerate(edges, start=1) if log2(edge) in TICKS]
    labels = [element("text", _edge(edge), x=place * BAR, y=2 * HEIGHT + AXIS, text_anchor="middle") for place, edge in ticks]
    bound = [element("path", d=f"M{place * BAR} 0v{2 * HEIGHT}", class_="bound") for place, edge in ticks if edge == 1]
    width = BAR * len(outputs)
    middle = element("path", d=f"M0 {HEIGHT}h{width}", class_="axis")
    said = _counted(outputs, gradients, edges)
    return _image("histogram", said, width, 2 * HEIGHT + AXIS + 4, *bars, middle, *bound, *labels)


def _image(kind: str, said: str, width: float, height: float, *parts: Html) -> Html:
    """A drawing, and what it says to those who do not see it."""
    box = f"0 0 {width:g} {height:g}"
    return element("svg", *parts, role="img", aria_label=said, class_=kind, width=width, height=height, viewBox=box)


def _bar(place: int, count: int, most: int, edges: Sequence[float], way: int) -> Html:
    """A bar, at least so high that it is seen. One beyond the bound is dashed."""
    height = max(2.0, (HEIGHT - 2) * count / most)
    top = HEIGHT - height if way < 0 else HEIGHT
    over = place > 0 and edges[place - 1] >= 1
    kind = "over" if over else "outputs" if way < 0 else "gradients"
    return element(
        "rect",
        element("title", f"{count} cases {_range(place, edges)}"),
        x=place * BAR + 1,
        y=top,
        width=BAR - 2,
        height=height,
        class_=kind,
    )


def _range(place: int, edges: Sequence[float]) -> str:
    if place == 0:
        return f"up to {_edge(edges[0])}"
    return f"over {_edge(edges[place - 1])}" + (f", up to {_edge(edges[place])}" if place < len(edges) else "")


def _edge(edge: float) -> str:
    return f"{edge:g}" if edge >= 1 else f"1/{1 / edge:g}"


def _counted(outputs: Sequence[int], gradients: Sequence[int], edges: Sequence[float]) -> str:
    """The histogram in words."""
    first = sum(edge <= 1 for edge in edges)
    parts = [
        f"{name}: {sum(counts)} cases, {sum(counts[first:])} over the bound"
        for name, counts in (("outputs", outputs), ("gradients", gradients))
        if sum(counts)
    ]
    return "error over bound; " + ("; ".join(parts) or "no case")
