"""Masks pair by pair, in Python's own arithmetic: what the block analysis is compared with, and calls to try it at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.spec.declarations import operator
from attnspec.spec.expression import Binary, Call, Expression, Name, Number, Unary, names, parse, to_text
from attnspec.spec.loader import loads

MASKS = {name.removeprefix("mask."): c.rule for name, c in operator()[0].clauses.items() if c.kind == "mask"}
"""Every mask of spec/masks.toml, so that a new one is tried too."""

FUNCTIONS = {
    "where": lambda condition, one, other: one if condition else other,
    "interval": lambda bounds, position: int((bounds <= position).sum()) - 1,
}
"""What Python lacks of the language."""

_NUMBERS = "".join(f"{name} = {{ default = 2 }}\n" for name in ("left", "right", "stride", "width", "global_tokens", "offset"))
VOCABULARY = vocabulary_of(loads(f'variant = "all"\nsummary = "All masks."\nmasks = {[*MASKS]}\n[parameters]\n{_NUMBERS}'))


@dataclass(frozen=True)
class Tried:
    """Sizes, parameters and operands by name, and the edges of a block."""

    scope: Mapping[str, Any]
    block: tuple[int, int]


@st.composite
def calls(draw: st.DrawFn, segments: int = 60, many_blocks: bool = False) -> Tried:
    """Sizes around the edges of blocks, empty ones too; operands of a seed; segment ids sorted or not."""
    if many_blocks:
        (*block,) = (draw(st.integers(3, 6)) for _ in "TS")
        T, S = (draw(st.integers(24, 40)) for _ in "TS")
    else:
        (*block,) = (draw(st.integers(1, 6)) for _ in "TS")
        T, S = (draw(st.sampled_from([0, 1, size - 1, size, size + 1, 2 * size, 3 * size + 1])) for size in block)
    B, N, X, Y = (draw(st.integers(1, most)) for most in (2, 2, 5, 4))
    scope: dict[str, Any] = {"B": B, "N": N, "T": T, "S": S, "X": X, "Y": Y}
    scope |= {name: draw(st.integers(0, 7)) for name in ("left", "right", "global_tokens")}
    scope |= {name: draw(st.integers(1, 9)) for name in ("stride", "width")}
    scope["offset"] = draw(st.sampled_from([0, S - T, 3, -2]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for name, length in (("prefix_lengths", S), ("query_seq_lengths", T), ("key_value_seq_lengths", S)):
        scope[name] = random.integers(0, length + 1, B) * random.choice([0, 1, 1, 1], B)
    scope["block_layout"] = random.random((N, X, Y)) < 0.3
    scope["mask"] = random.random((B, N, T, S)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    most, order = draw(st.sampled_from([1, 3, segments])), draw(st.sampled_from(["sorted", "documents", "random"]))
    for name, shape in (("query_segment_ids", (B, T)), ("key_value_segment_ids", (B, S))):
        scope[name] = _segment_ids(random, shape, most, order)
    scope["U"] = U = draw(st.integers(2, 6))
    for name, length in (("cu_seqlens_q", T), ("cu_seqlens_k", S)):
        bounds = np.sort(random.integers(0, length + 1, U))
        scope[name] = np.r_[0, bounds[1:-1], draw(st.sampled_from([length, int(bounds[-1])]))]
    return Tried(scope, (block[0], block[1]))


def _segment_ids(random: np.random.Generator, shape: tuple[int, int], most: int, order: str) -> np.ndarray:
    """Ids in order, documents one after another in any order, or ids that say nothing of each other."""
    ids = random.integers(0, most, shape)
    if order == "documents":
        return np.take_along_axis(ids, np.cumsum(random.random(shape) < 0.2, -1) % max(1, shape[1]), -1)
    return np.sort(ids, -1) if order == "sorted" else ids


def visible(predicates: Sequence[Expression], scope: Mapping[str, Any]) -> np.ndarray:
    """(B, N, T, S): every predicate at every pair, evaluated by Python."""
    written = [VOCABULARY.written_out(predicate) for predicate in predicates]
    code = compile(" and ".join(f"({to_text(each)})" for each in written), "<mask>", "eval")
    told_apart = frozenset().union(*map(names, written)) | {"t", "s"}
    shape = tuple(scope[letter.upper()] if letter in told_apart else 1 for letter in "bnts")
    values: dict[str, Any] = {**scope, **FUNCTIONS}
    pairs = (bool(eval(code, values, dict(zip("bnts", place, strict=True)))) for place in np.ndindex(shape))
    found = np.fromiter(pairs, bool, int(np.prod(shape))).reshape(shape)
    return np.broadcast_to(found, tuple(scope[dim] for dim in "BNTS"))


def in_blocks(pairs: np.ndarray, block: tuple[int, int]) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Every block's place, with its own pairs."""
    for row, start in enumerate(range(0, pairs.shape[2], block[0])):
        for column, low in enumerate(range(0, pairs.shape[3], block[1])):
            yield (row, column), pairs[:, :, start : start + block[0], low : low + block[1]]


def any_predicate(masks: Sequence[str] = (*MASKS,)) -> st.SearchStrategy[Expression]:
    """Masks, and comparisons with any arithmetic of positions, under everything that makes predicates of predicates."""

    def larger(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        equal = st.builds(Binary, st.sampled_from(["==", "!="]), parts, parts)
        chosen = st.builds(lambda *three: Call("where", three), parts, parts, parts)
        return st.one_of(_logic(parts), equal, chosen)

    named = st.sampled_from([MASKS[name] for name in masks])
    return st.recursive(st.one_of(named, _comparisons()), larger, max_leaves=4)


def combined_masks() -> st.SearchStrategy[Expression]:
    """Conjunctions and disjunctions of two to four masks, some negated."""
    masks = st.sampled_from([*MASKS.values()])
    return st.recursive(st.builds(Binary, st.sampled_from(["and", "or"]), masks, masks), _logic, max_leaves=2)


def _logic(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    two = st.builds(Binary, st.sampled_from(["and", "or"]), parts, parts)
    return st.one_of(two, st.builds(Unary, st.just("not"), parts))


def _comparisons() -> st.SearchStrategy[Expression]:
    return st.builds(Binary, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), _arithmetic(), _arithmetic())


def _arithmetic() -> st.SearchStrategy[Expression]:
    texts = ["s", "t", "left", "S", "key_value_segment_ids[b, s]", "query_segment_ids[b, min(abs(s - t), T - 1)]"]
    texts += ["prefix_lengths[where(s < t, 0, B - 1)]", "query_segment_ids[b, T - 1]", "prefix_lengths[min(b + n, B - 1)]"]
    leaves = st.one_of(st.sampled_from([*map(parse, texts)]), st.integers(0, 4).map(Number))
    divisors = st.one_of(st.integers(1, 4).map(Number), st.sampled_from([Name("stride"), Name("width")]))

    def larger(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.one_of(
            st.builds(Binary, st.sampled_from(["+", "-", "*"]), parts, parts),
            st.builds(Binary, st.sampled_from(["//", "%"]), parts, divisors),
            st.builds(Unary, st.just("-"), parts),
            st.builds(lambda function, *two: Call(function, two), st.sampled_from(["min", "max"]), parts, parts),
            st.builds(lambda part: Call("abs", (part,)), parts),
            st.builds(lambda one, other: Call("where", (MASKS["causal"], one, other)), parts, parts),
        )

    return st.recursive(leaves, larger, max_leaves=4)
