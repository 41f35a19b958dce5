"""The block table against brute force: it never skips a visible pair, never calls a block full that is not, and skips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnspec.codegen.blocks.analysis import analyse
from attnspec.codegen.blocks.table import FULL, SKIP, TEST, Run, block_table, runs, share
from attnspec.spec.expression import Expression, parse
from masks_by_hand import MASKS, VOCABULARY, Tried, any_predicate, calls, combined_masks, in_blocks, visible


def compared(predicates: Sequence[Expression], tried: Tried) -> tuple[int, int]:
    """(blocks that can be skipped, blocks that are); fails where a block is skipped or called full that is not."""
    table = block_table(analyse(predicates, VOCABULARY), tried.scope, tried.block)
    skippable = 0
    for (row, column), pairs in in_blocks(visible(predicates, tried.scope), tried.block):
        states = np.broadcast_to(table[:, :, row, column], pairs.shape[:2])
        some, every = pairs.any((2, 3)), pairs.all((2, 3))
        assert not np.any(some & (states == SKIP)), (row, column)
        assert not np.any(~every & (states == FULL)), (row, column)
        skippable += int(np.sum(~some))
    whole = np.broadcast_to(table, (tried.scope["B"], tried.scope["N"], *table.shape[2:]))
    return skippable, int(np.sum(whole == SKIP))


@pytest.mark.parametrize("name", [name for name in MASKS if name != "documents"])  # one without queries may lie between others
@settings(max_examples=50, deadline=None)
@given(tried=calls())
def test_the_table_of_a_mask_alone_is_exact(name: str, tried: Tried) -> None:
    table = block_table(analyse([MASKS[name]], VOCABULARY), tried.scope, tried.block)
    for (row, column), pairs in in_blocks(visible([MASKS[name]], tried.scope), tried.block):
        wanted = np.where(pairs.all((2, 3)), FULL, np.where(pairs.any((2, 3)), TEST, SKIP))
        np.testing.assert_array_equal(np.broadcast_to(table[:, :, row, column], wanted.shape), wanted)


@pytest.mark.parametrize("name", MASKS)
def test_of_a_mask_with_any_other_95_percent_of_the_skippable_blocks_are_skipped(name: str) -> None:
    counts = []

    @settings(max_examples=40, deadline=None, derandomize=True)  # a share: the same examples every time
    @given(other=st.sampled_from([*MASKS.values()]), tried=calls(segments=400, many_blocks=True))
    def collect(other: Expression, tried: Tried) -> None:
        counts.append(compared([MASKS[name], other], tried))

    collect()
    skippable, skipped = np.sum(counts, axis=0)
    assert skipped >= 0.95 * skippable


def test_of_any_masks_combined_95_percent_of_the_skippable_blocks_are_skipped() -> None:
    counts = []

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(predicate=combined_masks(), tried=calls(segments=400, many_blocks=True))
    def collect(predicate: Expression, tried: Tried) -> None:
        counts.append(compared([predicate], tried))

    collect()
    skippable, skipped = np.sum(counts, axis=0)
    assert skipped >= 0.95 * skippable


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(predicate=any_predicate(), tried=calls(segments=400))
def test_whatever_the_predicate_no_visible_pair_is_skipped_and_no_hidden_one_left_untested(
    predicate: Expression, tried: Tried
) -> None:
    compared([predicate], tried)


@settings(max_examples=50, deadline=None)
@given(tried=calls(), over=st.sampled_from(["b", "n", "bn"]))
def test_one_table_for_all_rows_or_heads_is_the_union_of_theirs(tried: Tried, over: str) -> None:
    """A loop that serves every batch row at once needs what any of them needs."""
    predicates = [MASKS["key_length"], MASKS["segments"], MASKS["random_blocks"], MASKS["explicit"]]
    table = block_table(analyse(predicates, VOCABULARY.over(over)), tried.scope, tried.block)
    for (row, column), pairs in in_blocks(visible(predicates, tried.scope), tried.block):
        axes = (*("bn".index(letter) for letter in over), 2, 3)
        some, every = pairs.any(axes, keepdims=True)[..., 0, 0], pairs.all(axes, keepdims=True)[..., 0, 0]
        states = np.broadcast_to(table[:, :, row, column], some.shape)
        assert not np.any(some & (states == SKIP))
        assert not np.any(~every & (states == FULL))


@pytest.mark.parametrize(
    "text",
    [
        "s < prefix_lengths[min(b + n, B - 1)]",
        "query_segment_ids[b, T - 1] < s",
        "query_segment_ids[b, min(abs(s - t), T - 1)] == 1",
        "mask[b, n, t, min(t, S - 1)]",
        "not mask[b, n, min(s, T - 1), s]",
    ],
)
@settings(max_examples=15, deadline=None)
@given(tried=calls())
def test_tensors_may_be_indexed_by_anything(text: str, tried: Tried) -> None:
    """By nothing that varies in a block, by queries and keys at once, by one letter twice."""
    compared([parse(text)], tried)


@pytest.mark.parametrize("text", ["s * 0.5 <= t", "(s - t) / 2 <= 0.1", "exp(s) > 3", "s // left <= 2"])
def test_what_has_no_bounds_is_tested_everywhere(text: str) -> None:
    """Floats round, and the sign of a divisor may be unknown."""
    tried = Tried({"B": 1, "N": 1, "T": 8, "S": 8, "left": 2}, (4, 4))
    table = block_table(analyse([parse(text)], VOCABULARY), tried.scope, tried.block)
    assert share(table, TEST) == 1


def test_a_flag_decides_for_all_blocks_at_once() -> None:
    blocks = analyse([parse("flag or s <= t")], VOCABULARY.knowing(predicates=["flag"]))
    states = {flag: share(block_table(blocks, {"T": 8, "S": 8, "flag": flag}, (4, 4)), FULL) for flag in (False, True)}
    assert states == {False: 0.25, True: 1.0}


def test_neighbouring_blocks_of_a_kind_are_one_run() -> None:
    row = np.array([SKIP, FULL, FULL, TEST, SKIP, TEST], np.int8)
    assert list(runs(row, 22, 4)) == [Run(4, 12, FULL), Run(12, 16, TEST), Run(20, 22, TEST)]
    assert list(runs(row[:0], 0, 4)) == []


def test_the_share_of_no_blocks_is_none() -> None:
    assert share(np.zeros((1, 1, 0, 0), np.int8), SKIP) == 0
