"""`attnspec explain`: which blocks the masks of a spec skip, in words, formulas, shares and a picture."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnspec.codegen.blocks.analysis import Blocks, analyse, high_text, low_text
from attnspec.codegen.blocks.call import LARGEST, SIZES, CallError, Planned, planned
from attnspec.codegen.blocks.picture import lines, svg
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.table import FULL, SKIP, TEST, block_table, share
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.spec.expression import Expression, fold, names, to_text
from attnspec.spec.loader import SpecError, find
from attnspec.spec.model import Spec
from attnspec.spec.suggestions import did_you_mean

OK, USAGE = 0, 2
MOST_BLOCKS = 2**24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec explain`."""
    add = parser.add_argument
    add("spec", metavar="SPEC", help="a built-in spec by name, or a TOML file")
    add("--sizes", default="", metavar="T=4096,S=4096", help="sizes of the call; T and S are 4096, B, N and K are 1 by default")
    add("--block", default="128", metavar="128 | 128x64", help="queries and keys of a block (128)")
    set_ = "an argument: a flag, a number, two numbers as 255,0; for a mask's tensor a length, documents, or a share of True"
    add("--set", action="append", default=[], metavar="NAME=VALUE", help=f"{set_}; may be repeated")
    add("--arrays", type=Path, metavar="FILE.npz", help="tensors of the masks by their arguments' names")
    add("--svg", type=Path, metavar="FILE", help="also draw the blocks into an SVG file")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec explain` with parsed options; returns the exit code."""
    try:
        spec = find(options.spec)
        block = _block(options.block)
        call = planned(spec, _sizes(options.sizes, spec), dict(_pairs(options.set)), options.arrays)
        _check_count(call, block)
        for line in explained(spec, call, block, options.svg, sys.stdout.encoding or "utf-8"):
            print(line)
    except (SpecError, CallError) as error:
        print(error, file=sys.stderr)
        return USAGE
    return OK


def explained(
    spec: Spec, call: Planned, block: tuple[int, int], file: Path | None = None, encoding: str = "utf-8"
) -> Iterator[str]:
    """The lines of the explanation; the picture is also drawn into `file`."""
    yield f"{spec.name}: {spec.summary}"
    yield ""
    blocks = analyse((stage.expression for stage in call.masks), vocabulary_of(spec))
    if call.masks:
        yield from wrapped(f"{stage.clause}: {to_text(fold(stage.expression))}" for stage in call.masks)
        yield from ("", *wrapped(formulas(blocks)), "")
    else:
        yield from ("No mask holds in this call: every query sees every key.", "")
    table = block_table(blocks, call.scope, block)
    yield from shares(table, call, block)
    first = table[0, 0] if 0 not in table.shape[:2] else np.zeros((0, 0), np.int8)
    if first.size:
        yield "" if table.shape[:2] == (1, 1) else "\nBatch row 0, head 0:"
        yield from (f"    {line}" for line in lines(first, encoding))
    if file is not None:
        title = f"{spec.name}, blocks of {block[0]} x {block[1]}"
        _write(file, svg(first, title, (call.scope["T"], call.scope["S"])))
        yield f"\ndrawn into {file}"


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallError(f"{file}: {error.strerror}") from None


def wrapped(texts: Iterable[str]) -> Iterator[str]:
    """Long formulas in several lines, each further in than the first."""
    for text in texts:
        margin = " " * (len(text) - len(text.lstrip()) + 8)
        yield from textwrap.wrap(text, 116, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)


def _check_count(call: Planned, block: tuple[int, int]) -> None:
    rows, columns = (-(-call.scope[dim] // size) for dim, size in zip("TS", block, strict=True))
    if rows * columns > MOST_BLOCKS:
        raise CallError(f"--block: {rows} x {columns} blocks are too many, expected at most {MOST_BLOCKS}; choose larger ones")


def formulas(blocks: Blocks) -> Iterator[str]:
    """Ranges of keys for a block of queries, and tests of a block of keys."""
    yield "Some of the queries start <= t < stop see the keys"
    yield from map(_range, blocks.seen)
    yield from ("    none",) if not blocks.seen else ()
    yield "and from some of them are hidden"
    yield from map(_range, blocks.hidden)
    yield from ("    none",) if not blocks.hidden else ()
    yield f"A block of the keys low <= s < high is {'looked up in a table: ' if blocks.needs_table else ''}skipped unless"
    yield from _any(blocks.seen)
    yield "and needs no test unless"
    yield from _any(blocks.hidden)


def _range(region: Region) -> str:
    where = f" where {' and '.join(map(to_text, region.given))}" if region.given else ""
    part = "" if region.bounded else ", some of them"
    return f"    {low_text(region)} <= s < {high_text(region)}{where}{part}"


def _any(regions: Sequence[Region]) -> Iterator[str]:
    """One line for each region, all of whose tests must hold."""
    for number, region in enumerate(regions):
        yield f"    {'or ' if number else ''}{' and '.join(map(to_text, region.meets)) or 'always'}"
    if not regions:
        yield "    never"


def shares(table: Any, call: Planned, block: tuple[int, int]) -> Iterator[str]:
    """How many blocks are skipped, full and tested."""
    read = {name for stage in call.masks for name in _scalars(stage.expression, call)}
    values = [f"{name} = {call.scope[name]}" for name in ("T", "S", *sorted(read - {"T", "S"}))]
    yield f"At {', '.join(values)}, {table.shape[2]} x {table.shape[3]} blocks of {block[0]} x {block[1]}:"
    yield from (f"    {name}: {text}" for name, text in call.operands.items())
    states = {"skipped": SKIP, "full": FULL, "tested": TEST}
    yield "    " + ", ".join(f"{100 * share(table, state):.1f} % {name}" for name, state in states.items())


def _scalars(rule: Expression, call: Planned) -> Iterator[str]:
    """The sizes and arguments that a mask compares positions with."""
    return (name for name in names(rule) & call.scope.keys() if isinstance(call.scope[name], (bool, int, float)))


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`NAME=VALUE`, each."""
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise CallError(f"expected NAME=VALUE, got {text!r}")
        yield name.strip(), value.strip()


def _sizes(text: str, spec: Spec) -> dict[str, int]:
    """`T=4096,S=4096`."""
    known = sorted({*SIZES, *(dim for dims in spec.tensors.values() for dim in dims)})
    found = {}
    for name, value in _pairs(text.split(",") if text else []):
        if name not in known:
            raise CallError(f"--sizes: unknown size `{name}`.{did_you_mean(name, known)} Known are {', '.join(known)}")
        found[name] = _whole(f"--sizes: {name}", value, 0, LARGEST)
    return found


def _block(text: str) -> tuple[int, int]:
    """`128`, or `128x64` for queries and keys."""
    sides = [_whole("--block", side, 1, LARGEST) for side in text.split("x")]
    if len(sides) > 2:
        raise CallError(f"--block: expected 128 or 128x64, got {text!r}")
    return sides[0], sides[-1]


def _whole(what: str, text: str, least: int, most: int) -> int:
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise CallError(f"{what} must be a whole number from {least} to {most}, got {text!r}")
    return int(text)
