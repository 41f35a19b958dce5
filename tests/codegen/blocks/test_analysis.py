"""The derived formulas: as they are printed, and as ranges of keys that lose no visible and no hidden pair."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from attnspec.codegen.blocks.affine import affine
from attnspec.codegen.blocks.analysis import Blocks, analyse, high_text, low_text
from attnspec.codegen.blocks.normal_form import MAX_CONJUNCTIONS, conjunction_of
from attnspec.codegen.blocks.regions import Region
from attnspec.spec.expression import Binary, Expression, Name, parse, substitute, to_text
from attnspec.spec.loader import find
from masks_by_hand import FUNCTIONS, MASKS, VOCABULARY, Tried, any_predicate, calls, visible


def blocks_of(*texts: str) -> Blocks:
    return analyse([parse(text) for text in texts], VOCABULARY)


def ranges(regions: Iterable[Region]) -> list[str]:
    found = [(f"{low_text(r)} .. {high_text(r)}", " and ".join(map(to_text, r.given))) for r in regions]
    return [f"{keys} if {given}" if given else keys for keys, given in found]


@pytest.mark.parametrize(
    ("text", "seen", "hidden"),
    [
        ("s <= t", ["0 .. stop"], ["start + 1 .. S"]),
        ("not s <= t", ["start + 1 .. S"], ["0 .. stop"]),
        ("s <= t + S - T", ["0 .. S + stop - T"], ["S + start - T + 1 .. S"]),
        ("-left <= s - t <= right", ["start - left .. right + stop"], ["0 .. stop - left - 1", "right + start + 1 .. S"]),
        ("s < prefix_lengths[b] or s <= t", ["0 .. prefix_lengths[b]", "0 .. stop"],
         ["max(prefix_lengths[b], start + 1) .. S"]),
        ("t < global_tokens or s == t", ["0 .. S if start < global_tokens", "start .. stop"],
         ["0 .. stop - 1 if global_tokens < stop", "max(start + 1, global_tokens + 1) .. S if global_tokens < stop"]),
        ("s != 3", ["0 .. 3", "4 .. S"], ["3 .. 4"]),
        ("2 * s <= t", ["0 .. (stop - 1) // 2 + 1"], ["-((-start - 1) // 2) .. S"]),
        ("s // 4 == t // 4", ["4 * (start // 4) .. 4 * ((stop - 1) // 4) + 4"],
         ["0 .. 4 * ((stop - 1) // 4)", "4 * (start // 4) + 4 .. S"]),
        ("where(t < 4, s < 4, s <= t)", ["0 .. 4 if start < 4", "0 .. stop if 4 < stop"],
         ["4 .. S if start < 4", "max(start + 1, 5) .. S if 4 < stop"]),
        ("s < t and t < s", [], ["start .. S", "0 .. stop"]),
        ("s >= 0", ["0 .. S"], []),
        ("interval(cu_seqlens_q, t) == interval(cu_seqlens_k, s)",
         ["cu_seqlens_k[interval(cu_seqlens_q, start)] .. where(interval(cu_seqlens_q, stop - 1) + 1 < U, "
          "cu_seqlens_k[min(interval(cu_seqlens_q, stop - 1) + 1, U - 1)], S)"],
         ["cu_seqlens_k[min(interval(cu_seqlens_q, start) + 1, U - 1)] .. S",
          "0 .. cu_seqlens_k[interval(cu_seqlens_q, stop - 1)]"]),
    ],
)  # fmt: skip
def test_ranges_of_keys_as_they_are_printed(text: str, seen: list[str], hidden: list[str]) -> None:
    blocks = blocks_of(text)
    assert ranges(blocks.seen) == seen
    assert ranges(blocks.hidden) == hidden
    assert not blocks.needs_table


@pytest.mark.parametrize(
    ("text", "meets"),
    [
        ("s <= t", ["low < stop"]),
        ("(t - s) % stride == 0", ["(stop - low - 1) // stride > (start - high) // stride"]),
        ("query_segment_ids[b,t] == key_value_segment_ids[b,s]",
         ["lowest(query_segment_ids[b, t]) <= highest(key_value_segment_ids[b, s])",
          "lowest(key_value_segment_ids[b, s]) <= highest(query_segment_ids[b, t])",
          "meet(key_value_segment_ids[b, s], query_segment_ids[b, t])"]),
        ("mask", ["some(mask[b, n, t, s])"]),
        ("not mask", ["some(not mask[b, n, t, s])"]),
    ],
)  # fmt: skip
def test_tests_of_a_block_of_keys_as_they_are_printed(text: str, meets: list[str]) -> None:
    (region,) = blocks_of(text).seen
    assert [*map(to_text, region.meets)] == meets


def test_a_loop_over_every_batch_row_takes_the_widest_range_of_them() -> None:
    blocks = analyse([parse("s < key_value_seq_lengths[b]")], VOCABULARY.over("b"))
    assert ranges(blocks.seen) == ["0 .. highest(key_value_seq_lengths[b])"]
    assert ranges(blocks.hidden) == ["lowest(key_value_seq_lengths[b]) .. S"]


@pytest.mark.parametrize("name", ["dilated", "segments", "random_blocks", "explicit"])
def test_what_is_no_range_of_keys_needs_a_table(name: str) -> None:
    assert analyse([MASKS[name]], VOCABULARY).needs_table


def test_limits_that_a_spec_declares_leave_nothing_to_test() -> None:
    """gemma2's window has right = 0, so the causal mask adds no range, and `-left <= 0` needs no test."""
    spec = find("gemma2")
    masks = [stage.expression for stage in spec.paths[0].stages if stage.kind == "mask"]
    assert ranges(analyse(masks, VOCABULARY).seen) == ["start - left .. stop"]
    assert ranges(analyse(masks, VOCABULARY).hidden) == ["start + 1 .. S", "0 .. stop - left - 1"]


def test_a_predicate_with_too_many_cases_is_weakened_and_stays_small() -> None:
    texts = [f"(s < {k} or t < {k} or s == t + {k})" for k in range(2, 9)]
    assert 0 < len(conjunction_of([parse(" and ".join(texts))], True, VOCABULARY)) <= MAX_CONJUNCTIONS


def nested(around: str, inside: str, times: int) -> str:
    for _ in range(times):
        inside = around.format(inside)
    return inside


@pytest.mark.parametrize(
    "text",
    [
        nested("({} == (s <= t))", "(t <= s)", 16),
        nested("(({}) != (s // 2 == t // 3))", "(t <= s)", 12),
        nested("where({}, s < 3, t < 4)", "(t <= s)", 14),
        nested("abs({} - t)", "s", 18) + " < 3",
        nested("(({}) * (s + 1))", "t", 16) + " < 3",
        nested("(({0} + s) // 2 - ({0} + t) // 2)", "s", 6) + " < 3",
        " + ".join(f"min(s + {i}, t * {i + 1})" for i in range(14)) + " < 3",
        " and ".join(f"(s < {i} or t > {i} or s == t + {i})" for i in range(12)),
        " or ".join(f"s == {i}" for i in range(38)) + " or not (" + " or ".join(f"t == {i}" for i in range(30)) + ")",
    ],
    ids=["equal", "unequal", "where", "abs", "products", "quotients", "sums", "and of ors", "or"],
)
def test_formulas_of_hostile_predicates_stay_small(text: str) -> None:
    """What would double with every level is left unbounded: tested, never wrong."""
    blocks = blocks_of(text)
    formulas = [to_text(test) for region in (*blocks.seen, *blocks.hidden) for test in (*region.given, *region.meets)]
    assert sum(map(len, formulas)) < 40_000


def keys_of(regions: Iterable[Region], names: dict[str, Any]) -> set[int]:
    """The keys of the ranges that hold, for one block of queries, by Python."""
    found: set[int] = set()
    for region in regions:
        if all(eval(to_text(test), FUNCTIONS, names) for test in region.given):
            low, high = (eval(text(region), FUNCTIONS, names) for text in (low_text, high_text))
            found |= set(range(max(0, low), min(names["S"], high)))
    return found


BY_POSITION = [name for name in MASKS if name not in ("segments", "documents", "random_blocks", "explicit")]


def compared(predicate: Expression, tried: Tried) -> Blocks:
    """The blocks of a predicate; fails where their ranges lack a key that is seen, or one that is hidden."""
    blocks, scope = analyse([predicate], VOCABULARY), tried.scope
    pairs = visible([predicate], scope)
    for start, b in product(range(0, scope["T"], tried.block[0]), range(scope["B"])):
        names = {**scope, "start": start, "stop": min(start + tried.block[0], scope["T"]), "b": b, "n": 0}
        here = pairs[b, 0, start : names["stop"]]
        for regions, keys in ((blocks.seen, here.any(0)), (blocks.hidden, ~here.all(0))):
            assert keys_of(regions, names) >= {*np.flatnonzero(keys)}
    return blocks


STARTS = "cu_seqlens_k[interval(cu_seqlens_q, t)] - cu_seqlens_q[interval(cu_seqlens_q, t)]"
SIDES = (("t", "s"), ("cu_seqlens_q", "cu_seqlens_k"))
SWAPPED = {one: Name(other) for side in SIDES for one, other in (side, side[::-1])}
ENDS = STARTS.replace("t)]", "t) + 1, U - 1)]").replace("[int", "[min(int")


@pytest.mark.parametrize("rule", ["s <= t + {}", "-left <= s - (t + {}) <= right", "not s <= t + {}"])
@pytest.mark.parametrize("offset", ["0", STARTS, ENDS])
@settings(max_examples=15, deadline=None)
@given(tried=calls())
def test_ranges_inside_documents_lose_no_visible_and_no_hidden_pair(rule: str, offset: str, tried: Tried) -> None:
    inside = Binary("and", MASKS["documents"], parse(rule.format(f"({offset})")))
    assert not compared(inside, tried).needs_table
    compared(substitute(inside, SWAPPED), tried)


@pytest.mark.parametrize("name", BY_POSITION)
@settings(max_examples=25, deadline=None)
@given(tried=calls())
def test_ranges_of_a_mask_are_the_visible_and_the_hidden_keys(name: str, tried: Tried) -> None:
    blocks, scope = compared(MASKS[name], tried), tried.scope
    pairs = visible([MASKS[name]], scope)
    for start, b in product(range(0, scope["T"], tried.block[0]), range(scope["B"])):
        names = {**scope, "start": start, "stop": min(start + tried.block[0], scope["T"]), "b": b, "n": 0}
        here = pairs[b, 0, start : names["stop"]]
        assert blocks.needs_table or keys_of(blocks.seen, names) == {*np.flatnonzero(here.any(0))}
        assert blocks.needs_table or keys_of(blocks.hidden, names) == {*np.flatnonzero(~here.all(0))}


@settings(max_examples=50, deadline=None)
@given(predicate=any_predicate(BY_POSITION), tried=calls())
def test_ranges_hold_every_visible_and_every_hidden_key_whatever_the_predicate(predicate: Expression, tried: Tried) -> None:
    compared(predicate, tried)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("t - left", "t - left"),
        ("-(s - 2)", "-s + 2"),
        ("3 * (t + 1)", "3 * t + 3"),
        ("1 - 1", "0"),
        ("S - T", "S - T"),
        ("(t + 0) // 1", "t"),
        ("t * s", "t * s"),
        ("7 // 2 - 3 % 2", "-(3 % 2) + 3"),
        ("min(s + 0, t)", "min(s, t)"),
        ("floor(s)", "s"),
    ],
)
def test_affine_forms_print_as_python(text: str, printed: str) -> None:
    assert affine(parse(text)).text() == printed
