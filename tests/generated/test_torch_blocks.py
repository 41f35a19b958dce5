"""The blockwise form of torch: the same as the direct form, in blocks of any size, over one range of keys or several."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnspec.codegen.support.common import _blocks, _runs, _seamless, _tested
from attnspec.codegen.support.torch import _add, _extremes, _taken
from blockwise_specs import LOOKED_UP, SPECS, looked_up
from builtin_calls import function
from by_hand import random_arrays
from compiling import blockwise_module_of, module_of

pytestmark = pytest.mark.xdist_group("torch")
EXACT = {"atol": 1e-12, "rtol": 1e-12}


ALL = {**SPECS, **LOOKED_UP}
FORMS = {name: (module_of(spec, "torch"), blockwise_module_of(spec, "torch")) for name, spec in ALL.items()}


def results(attend: Any, arrays: dict[str, Any], **options: Any) -> list[Tensor]:
    """The output, and the gradient of every tensor."""
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    output = attend(**tensors, **options)
    return [output, *torch.autograd.grad(output.square().sum(), list(tensors.values()))]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=12, deadline=None)
@given(block=st.integers(1, 9), rows=st.integers(0, 20), keys=st.integers(0, 20), seed=st.integers(0, 99))
def test_any_block_gives_what_the_direct_form_gives(name: str, block: int, rows: int, keys: int, seed: int) -> None:
    direct, blocks = FORMS[name]
    blocks.BLOCK = block
    arrays = random_arrays(seed, query=(2, rows, 2, 3), key=(2, keys, 1, 3), value=(2, keys, 1, 2))
    entries = {name: torch.from_numpy(array) for name, array in looked_up(ALL[name], seed, rows, keys).items()}
    for found, expected in zip(results(blocks.tried, arrays, **entries), results(direct.tried, arrays, **entries), strict=True):
        torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 300])
@pytest.mark.parametrize("left", [0, 1, 130, 4095])
def test_blocks_make_no_difference(length: int, left: int) -> None:
    """Lengths around the block of 128, windows inside one block and across several."""
    arrays = random_arrays(length, query=(1, length, 2, 3), key=(1, 140, 1, 3), value=(1, 140, 1, 2))
    both = [results(function(name, "torch"), arrays, cap=5.0, left=left) for name in ("gemma2", "gemma2_blockwise")]
    for direct, blocks in zip(*both, strict=True):
        torch.testing.assert_close(blocks, direct, **EXACT)


def test_compiled_whole_for_lengths_that_change_it_gives_the_same() -> None:
    """Sizes that are not known while torch traces are compared, never sorted or hashed."""
    attend = function("gemma2_blockwise", "torch")
    compiled = torch.compile(attend, fullgraph=True, backend="eager", dynamic=True)
    for rows in (130, 150):
        arrays = random_arrays(rows, query=(1, rows, 2, 3), key=(1, rows, 2, 3), value=(1, rows, 2, 3))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        torch.testing.assert_close(compiled(**tensors, left=9), attend(**tensors, left=9))
    torch._dynamo.reset()


def test_blocks_keep_memory_below_the_matrix_of_logits() -> None:
    """What the backward pass keeps grows with T: nothing of T times S is saved."""
    rows = 1024
    tensors = [torch.randn(1, rows, 1, 4, requires_grad=True) for _ in range(3)]
    sizes: list[int] = []

    def kept(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        function("causal_gqa_blockwise", "torch")(*tensors)
    assert sizes and max(sizes) <= rows * 4


def test_runs_are_what_is_seen_in_order_and_tested_where_it_is_hidden_from_some() -> None:
    assert _runs(20, seen=[(0, 2), (5, 30)], hidden=[(-3, 1), (8, 9), (11, 11)]) == [
        (0, 1, True),
        (1, 2, False),
        (5, 8, False),
        (8, 9, True),
        (9, 20, False),
    ]
    assert _runs(20, seen=[(7, 3), (25, 30)], hidden=[]) == []
    assert list(_tested([(0, 1, True), (1, 2, False), (5, 8, True)])) == [(0, 0, 1), (2, 5, 8)]


def test_blocks_of_keys_cover_a_range_and_stay_inside_the_sequence() -> None:
    assert list(_blocks(10, 4, (5, 99))) == [(4, 8), (8, 10)]
    assert list(_blocks(10, 4, (-5, 0))) == []


def test_a_single_range_of_keys_is_a_view() -> None:
    keys = torch.arange(12.0).reshape(2, 6)
    assert _taken(keys, 1, [(1, 3, True), (3, 5, False)]).data_ptr() == keys[:, 1:].data_ptr()
    assert _taken(keys, 1, [(0, 1, True), (4, 6, True)]).tolist() == [[0, 4, 5], [6, 10, 11]]
    assert _taken(keys, 1, []).shape == (2, 0)


def test_extremes_are_those_of_all_rows_and_0_where_there_is_none() -> None:
    assert _extremes(torch.tensor([[3, 1, 2], [5, 1, 0]]), 2) == ([1, 0], [5, 2])
    assert _extremes(torch.zeros(0, 3, dtype=int), 2) == ([0, 0], [0, 0])
    assert _extremes(torch.zeros(2, 0, dtype=int), 2) == ([], [])


def test_ranges_that_follow_on_each_other_are_one() -> None:
    assert list(_seamless([(0, 4), (4, 8), (12, 14)])) == [(0, 8), (12, 14)]
    assert list(_seamless([])) == []


def test_documents_are_mapped_and_derived_with_their_ids() -> None:
    """vmap takes ids along, and gradients of a mapped call are those of its rows."""
    spec = LOOKED_UP["documents"]
    blocks, direct = blockwise_module_of(spec, "torch"), module_of(spec, "torch")
    vars(blocks)["BLOCK"] = 3
    arrays = random_arrays(0, query=(2, 8, 2, 3), key=(2, 7, 1, 3), value=(2, 7, 1, 2))
    arrays |= looked_up(spec, 0, 8, 7)
    names, given = [*arrays], [torch.from_numpy(array)[:, None] for array in arrays.values()]
    leaves = [tensor.requires_grad_() for tensor in given[:3]]
    both = []
    for module in (blocks, direct):
        output = torch.vmap(lambda *at, attend=module.tried: attend(**dict(zip(names, at, strict=True))))(*given)
        both.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
    for found, expected in zip(*both, strict=True):
        torch.testing.assert_close(found, expected, **EXACT)


def test_columns_are_added_where_they_were_taken_from() -> None:
    total = torch.zeros(1, 6)
    _add(total, 1, [(0, 1, True), (4, 6, False)], torch.tensor([[1.0, 2.0, 3.0]]))
    assert total.tolist() == [[1, 0, 0, 0, 2, 3]]


def test_full_blocks_take_no_test() -> None:
    """Of a causal block only the diagonal is tested."""
    visible = blockwise_module_of(SPECS["bottom-right"], "torch")._visible
    assert visible(8, 12, 20, 20) == [(0, 9, False), (9, 12, True)]
