"""The blockwise form of NumPy: the same as the direct form, forward and backward, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnspec.codegen.support.numpy import _add, _extremes, _taken
from blockwise_specs import LOOKED_UP, SPECS, looked_up
from by_hand import random_arrays
from compiling import blockwise_module_of, module_of

ALL = {**SPECS, **LOOKED_UP}
FORMS = {name: (module_of(spec, "numpy"), blockwise_module_of(spec, "numpy")) for name, spec in ALL.items()}


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=30, deadline=None)
@given(block=st.integers(1, 9), rows=st.integers(0, 20), keys=st.integers(0, 20), seed=st.integers(0, 99))
def test_any_block_gives_what_the_direct_form_gives(name: str, block: int, rows: int, keys: int, seed: int) -> None:
    direct, blocks = FORMS[name]
    vars(blocks)["BLOCK"] = block
    arrays = random_arrays(seed, query=(2, rows, 2, 3), key=(2, keys, 1, 3), value=(2, keys, 1, 2))
    arrays |= looked_up(ALL[name], seed, rows, keys)
    expected = direct.tried(**arrays)
    np.testing.assert_allclose(blocks.tried(**arrays), expected, atol=1e-12)
    found, wanted = (module.tried_vjp(np.cos(expected), **arrays) for module in (blocks, direct))
    assert found.keys() == wanted.keys()
    for each, gradient in wanted.items():
        np.testing.assert_allclose(found[each], gradient, atol=1e-12, err_msg=each)


def test_a_single_range_of_keys_is_a_view() -> None:
    keys = np.arange(12.0).reshape(2, 6)
    assert np.shares_memory(_taken(keys, 1, [(1, 3, True), (3, 5, False)]), keys)
    assert _taken(keys, 1, [(0, 1, True), (4, 6, True)]).tolist() == [[0, 4, 5], [6, 10, 11]]
    assert _taken(keys, 1, []).shape == (2, 0)


def test_columns_are_added_where_they_were_taken_from() -> None:
    total = np.zeros((1, 6))
    _add(total, 1, [(0, 1, True), (4, 6, False)], np.array([[1.0, 2.0, 3.0]]))
    assert total.tolist() == [[1, 0, 0, 0, 2, 3]]


def test_extremes_are_those_of_all_rows_and_0_where_there_is_none() -> None:
    assert _extremes(np.array([[3, 1, 2], [5, 1, 0]]), 2) == ([1, 0], [5, 2])
    assert _extremes(np.zeros((0, 3), int), 2) == ([0, 0], [0, 0])
    assert _extremes(np.zeros((2, 0), int), 2) == ([], [])
