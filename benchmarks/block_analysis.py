"""How long it takes to plan the blocks of a mask, and how many of the skippable blocks are skipped.

    python benchmarks/block_analysis.py

Every family of masks at T = S = 4096, where brute force over all pairs says which blocks of 128 x 128 can be skipped and
which are full, and at T = S = 131072, where the plan has a million blocks. `one range` is the share of the skippable blocks
that one range of keys for each block of queries would skip. Results go to results/block_analysis.json and .txt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnspec.codegen.blocks.analysis import Blocks, analyse
from attnspec.codegen.blocks.table import FULL, SKIP, TEST, block_table, share
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.spec.loader import loads

RESULTS = Path(__file__).parent / "results"
BLOCK = 128
SHORT, LONG = 4096, 131072
Array = Any
Visible = Callable[[dict[str, Any], Array, Array], Array]

PARAMETERS = {"left": 255, "right": 255, "stride": 512, "width": 128, "global_tokens": 64, "offset": 0}


VISIBLE: dict[str, Visible] = {
    "causal": lambda x, t, s: s <= t,
    "window": lambda x, t, s: (t - s <= x["left"]) & (s - t <= x["right"]),
    "prefix": lambda x, t, s: (s <= t) | (s < x["prefix_lengths"][0]),
    "global_window": lambda x, t, s: (
        (t < x["global_tokens"]) | (s < x["global_tokens"]) | (t - s <= x["left"]) & (s - t <= x["right"])
    ),
    "dilated": lambda x, t, s: (np.mod(t - s, x["stride"]) == 0) & (t - s <= x["left"]) & (s - t <= x["right"]),
    "random_blocks": lambda x, t, s: x["block_layout"][0, t // x["width"], s // x["width"]],
    "segments": lambda x, t, s: x["query_segment_ids"][0, t] == x["key_value_segment_ids"][0, s],
    "query_length": lambda x, t, s: t < x["query_seq_lengths"][0],
    "key_length": lambda x, t, s: s < x["key_value_seq_lengths"][0],
}
"""Masks of spec/masks.toml, written again in NumPy."""

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "causal": ("causal", {}),
    "window": ("window", {}),
    "prefix-LM": ("prefix", {}),
    "global tokens with a window": ("global_window", {}),
    "dilated": ("dilated", {"left": 2048, "right": 0}),
    "random blocks": ("random_blocks", {}),
    "segments in order": ("segments", {}),
    "segments in any order": ("segments", {"shuffled": True}),
    "query and key lengths": ("query_length key_length", {}),
    "causal, window": ("causal window", {}),
    "causal, segments in any order": ("causal segments", {"shuffled": True}),
    "causal, segments, lengths": ("causal segments query_length key_length", {}),
    "prefix-LM, lengths": ("prefix query_length key_length", {}),
    "causal, random blocks": ("causal random_blocks", {}),
}


def operands(length: int, shuffled: bool) -> dict[str, Any]:
    """Sizes and tensors: documents of 100 to 1000 tokens, three blocks of keys in a hundred at random, cut-off lengths."""
    random = np.random.default_rng(0)
    edges = np.cumsum(random.integers(100, 1000, length // 100))
    ids = np.searchsorted(edges, np.arange(length), side="right")
    names = random.permutation(ids.max() + 1) if shuffled else np.arange(ids.max() + 1)
    blocks = -(-length // PARAMETERS["width"])
    return {
        **dict.fromkeys("BN", 1),
        **dict.fromkeys("TS", length),
        **dict.fromkeys("XY", blocks),
        "prefix_lengths": np.array([length // 8]),
        "query_seq_lengths": np.array([length - length // 10]),
        "key_value_seq_lengths": np.array([length - length // 5]),
        "block_layout": random.random((1, blocks, blocks)) < 0.03,
        "query_segment_ids": names[ids][None],
        "key_value_segment_ids": names[ids][None],
    }


def analysed(masks: list[str]) -> tuple[Blocks, float]:
    """The analysis of masks, and its time in ms."""
    spec = loads(f'variant = "measured"\nsummary = "s"\nmasks = {masks}\n{_parameters_of(masks)}')
    rules = [stage.expression for stage in spec.paths[0].stages if stage.kind == "mask"]
    return timed(lambda: analyse(rules, vocabulary_of(spec)))


def _parameters_of(masks: list[str]) -> str:
    wanted = {"window": ("left", "right"), "global_window": ("left", "right", "global_tokens"),
              "dilated": ("left", "right", "stride"), "random_blocks": ("width",)}  # fmt: skip
    names = dict.fromkeys(name for mask in masks for name in wanted.get(mask, ()))
    return "[parameters]\n" + "".join(f"{name} = {{ default = {PARAMETERS[name]} }}\n" for name in names)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the best of three times in ms."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = function()
        times.append(1000 * (time.perf_counter() - start))
    return result, min(times)


def by_brute_force(masks: list[str], x: dict[str, Any]) -> tuple[Array, Array]:
    """(some pair is visible, every pair is) for every block."""
    s, some, every = np.arange(x["S"]), [], []
    for start in range(0, x["T"], BLOCK):
        t = np.arange(start, min(start + BLOCK, x["T"]))[:, None]
        pairs = np.ones((len(t), len(s)), bool)
        for mask in masks:
            pairs &= VISIBLE[mask](x, t, s[None, :])
        columns = np.arange(0, x["S"], BLOCK)
        some.append(np.logical_or.reduceat(pairs.any(0), columns))
        every.append(np.logical_and.reduceat(pairs.all(0), columns))
    return np.array(some), np.array(every)


def skipped_by_one_range(some: Array) -> int:
    """Blocks outside of the range from the first visible block to the last one, row by row."""
    return sum(len(row) - (np.flatnonzero(row)[-1] - np.flatnonzero(row)[0] + 1 if row.any() else 0) for row in some)


def measured(name: str) -> dict[str, Any]:
    """The figures of one family."""
    words, options = FAMILIES[name]
    masks, shuffled = words.split(), options.get("shuffled", False)
    blocks, analysis = analysed(masks)
    short, long = ({**PARAMETERS, **options, **operands(length, shuffled)} for length in (SHORT, LONG))
    table, _ = timed(lambda: block_table(blocks, short, (BLOCK, BLOCK))[0, 0])
    large, planning = timed(lambda: block_table(blocks, long, (BLOCK, BLOCK))[0, 0])
    some, every = by_brute_force(masks, short)
    assert not np.any(some & (table == SKIP)) and not np.any(~every & (table == FULL))
    skippable, full = int(np.sum(~some)), int(np.sum(every))
    return {
        "masks": name,
        "needs a table": blocks.needs_table,
        "skipped of skippable": percent(int(np.sum(table == SKIP)), skippable),
        "one range": percent(skipped_by_one_range(some), skippable),
        "full of fully visible": percent(int(np.sum(table == FULL)), full),
        "analysis ms": round(analysis, 2),
        "planning ms at 128k": round(planning, 1),
        "at 128k": {state: round(100 * share(large, n), 1) for state, n in (("skip", SKIP), ("test", TEST), ("full", FULL))},
    }


def percent(part: int, whole: int) -> float | None:
    """The share in %; None of nothing."""
    return round(100 * part / whole, 1) if whole else None


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A table for people."""
    columns = ("skipped of skippable", "one range", "full of fully visible", "analysis ms", "planning ms at 128k")
    yield f"{'masks':32s}{''.join(f'{column:>23s}' for column in columns)}   at 128k"
    for row in rows:
        shares = ", ".join(f"{state} {value}" for state, value in row["at 128k"].items())
        yield f"{row['masks']:32s}{''.join(f'{row[column]!s:>23s}' for column in columns)}   {shares}"


def main() -> None:
    """Measure, print and write."""
    rows = [measured(name) for name in FAMILIES]
    text = "\n".join(lines(rows)) + "\n"
    print(text, end="")
    (RESULTS / "block_analysis.txt").write_text(text, encoding="utf-8")
    (RESULTS / "block_analysis.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
