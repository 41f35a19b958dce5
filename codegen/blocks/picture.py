"""A block table as a picture: for the terminal, and as SVG."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attnspec.codegen.blocks.table import FULL, SKIP, TEST, runs

Table = NDArray[np.int8]

NAMES = {FULL: "full", TEST: "tested", SKIP: "skipped"}
_SIGNS = {FULL: "█", TEST: "▒", SKIP: "·"}
_PLAIN_SIGNS = {FULL: "#", TEST: "+", SKIP: "."}
_COLOURS = {FULL: "#1f5fa8", TEST: "#f2a33a"}
_LARGEST = 512  # blocks of a side that an SVG shows one by one


def shrunk(table: Table, rows: int, columns: int) -> Table:
    """At most so many rows and columns of one (query blocks, key blocks) table: what is not of one kind is tested."""
    least, most = table, table
    for axis, count in enumerate((rows, columns)):
        if table.shape[axis] > count:
            starts = np.linspace(0, table.shape[axis], count, endpoint=False).astype(np.int64)
            least, most = np.minimum.reduceat(least, starts, axis), np.maximum.reduceat(most, starts, axis)
    return np.where(least == most, least, np.int8(TEST))


def lines(table: Table, encoding: str = "utf-8", width: int = 64) -> Iterator[str]:
    """The table as text, a block two signs wide where there is room, and what the signs mean."""
    signs = _SIGNS if _can_write("".join(_SIGNS.values()), encoding) else _PLAIN_SIGNS
    small = shrunk(table, width // 2, width)
    times = 2 if 2 * small.shape[1] <= width else 1
    yield from ("".join(signs[state] * times for state in row) for row in small.tolist())
    yield "   ".join(f"{signs[state]} {name}" for state, name in NAMES.items())


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def svg(table: Table, title: str, lengths: tuple[int, int]) -> str:
    """The table as an SVG file: queries downwards, keys to the right."""
    small = shrunk(table, _LARGEST, _LARGEST)
    rows, columns = small.shape
    across, down = 480 / max(rows, columns, 1) * columns, 480 / max(rows, columns, 1) * rows
    paths = (f'<path fill="{colour}" d="{_path(small, state)}"/>' for state, colour in _COLOURS.items())
    swatches = (
        f'<rect x="{60 + 90 * number}" y="{down + 66:g}" width="14" height="14" fill="{_COLOURS.get(state, "#eeeeee")}"/>'
        f'<text x="{80 + 90 * number}" y="{down + 78:g}">{name}</text>'
        for number, (state, name) in enumerate(NAMES.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(across + 80, 360):g} {down + 92:g}" '
        f'font-family="sans-serif" font-size="13">\n'
        f"<title>{_escaped(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="60" y="20">{_escaped(title)}</text>\n'
        f'<text x="60" y="{down + 56:g}">keys, {lengths[1]}</text>\n'
        f'<text transform="translate(50 {40 + down:g}) rotate(-90)">queries, {lengths[0]}</text>\n'
        f'<rect x="60" y="40" width="{across:g}" height="{down:g}" fill="#eeeeee"/>\n'
        f'<g transform="translate(60 40) scale({480 / max(rows, columns, 1):g})" shape-rendering="crispEdges">\n'
        f"{chr(10).join(paths)}\n</g>\n{''.join(swatches)}\n</svg>\n"
    )


def _path(table: Table, state: int) -> str:
    """One rectangle for each run of a kind."""
    found = ((y, run) for y, row in enumerate(table) for run in runs(row, table.shape[1], 1) if run.state == state)
    return "".join(f"M{run.low} {y}h{run.high - run.low}v1h-{run.high - run.low}z" for y, run in found)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
