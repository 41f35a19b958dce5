"""The blockwise form of TensorFlow: what the direct form gives, eager and in graphs that know no sizes, twice derived too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from attnspec.codegen.blocks.analysis import analyse
from attnspec.codegen.blocks.table import SKIP, block_table
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.blockwise.coverage import masks
from attnspec.codegen.support.tensorflow import _added, _by_blocks, _extremes, _in_blocks, _within_reach
from attnspec.spec.model import Spec
from blockwise_specs import LOOKED_UP, SPECS, looked_up
from builtin_calls import function
from by_hand import random_arrays
from compiling import blockwise_module_of, choosing_module_of, module_of

Attention = Callable[..., tf.Tensor]
X = tf.constant(random_arrays(0, x=(1, 5, 2, 3))["x"])


def blockwise(spec: Spec, block: int) -> ModuleType:
    """The blockwise module of a spec, in blocks of that length."""
    module = blockwise_module_of(spec, "tensorflow")
    vars(module)["BLOCK"] = block
    return module


def lengths(rows: int, keys: int) -> list[tf.Tensor]:
    arrays = random_arrays(rows, query=(1, rows, 2, 3), key=(1, keys, 1, 3), value=(1, keys, 1, 2))
    return [tf.constant(array) for array in arrays.values()]


def results(attend: Attention) -> Callable[..., list[tf.Tensor]]:
    """The output, and the gradient of every tensor."""

    def both(*given: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(given)
            output = attend(*given)
        return [output, *tape.gradient(output, given, output_gradients=tf.cos(output))]

    return both


def graph(program: Callable[..., Any]) -> Any:
    """The program as a graph that knows of its three inputs that they have heads."""
    return tf.function(program, autograph=False, input_signature=[tf.TensorSpec((None,) * 4, tf.float64)] * 3)


@pytest.mark.parametrize("name", SPECS)
def test_blocks_give_what_the_direct_form_gives(name: str) -> None:
    """Blocks of 4: queries and keys that do not fill them, some without a key, several ranges, and none at all."""
    direct, blocks = (results(module.tried) for module in (module_of(SPECS[name], "tensorflow"), blockwise(SPECS[name], 4)))
    traced = graph(blocks)
    for rows, keys in ((11, 7), (17, 40), (1, 5), (0, 3), (3, 0)):
        given = lengths(rows, keys)
        for expected, *found in zip(direct(*given), traced(*given), blocks(*given), strict=True):
            for each in found:
                np.testing.assert_allclose(each, expected, atol=1e-12)


@pytest.mark.parametrize("name", LOOKED_UP)
def test_blocks_give_what_the_direct_form_gives_where_masks_look_up(name: str) -> None:
    spec = LOOKED_UP[name]
    modules = blockwise(spec, 4), module_of(spec, "tensorflow")
    for rows, keys in ((11, 7), (0, 3), (3, 0)):
        given = [tf.concat((tensor, -tensor), 0) for tensor in lengths(rows, keys)]
        entries = looked_up(spec, rows, rows, keys)
        found, expected = (results(functools.partial(module.tried, **entries))(*given) for module in modules)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("name", SPECS)
def test_the_keys_that_are_visited_are_in_the_blocks_of_the_analysis(name: str) -> None:
    spec, rows, keys = SPECS[name], 40, 37
    visible = blockwise(spec, 4)._visible
    given = {a.name: a.default for a in spec.arguments if a.role == "integer"}
    numbers = [given[each] for each in visible.__code__.co_varnames[4 : visible.__code__.co_argcount]]
    table = block_table(analyse(masks(spec), vocabulary_of(spec)), {"T": rows, "S": keys, **given}, (4, 4))[0, 0]
    for start, states in zip(range(0, rows, 4), table, strict=True):
        found = visible(tf.constant(start, tf.int64), tf.constant(start + 4, tf.int64), rows, keys, *numbers)
        assert sorted({s // 4 for s in found.numpy()}) == list(np.flatnonzero(states != SKIP))


def test_the_graph_has_the_same_size_for_every_length() -> None:
    def operations(length: int) -> int:
        x = tf.TensorSpec((1, length, 2, 4), tf.float32)
        program = results(function("gemma2_blockwise", "tensorflow"))
        whole = tf.function(program, autograph=False).get_concrete_function(x, x, x).graph
        inner = [node for each in whole.as_graph_def().library.function for node in each.node_def]
        return len(whole.get_operations()) + len(inner)

    assert operations(256) == operations(4096)


def derivatives(attend: Attention) -> list[tf.Tensor]:
    """A derivative of the gradient, and a mapped call."""
    with tf.GradientTape() as outer:
        outer.watch(X)
        with tf.GradientTape() as inner:
            inner.watch(X)
            total = tf.reduce_sum(tf.sin(attend(X, X, X)))
        slopes = inner.gradient(total, X)
    mapped = tf.vectorized_map(lambda x: attend(x, X, X), tf.stack([X, 2 * X]))
    return [outer.gradient(slopes, X, output_gradients=tf.cos(X)), mapped]


def test_second_derivatives_and_a_mapped_call_are_those_of_the_direct_form() -> None:
    spec = SPECS["chunks of a window"]
    found, expected = derivatives(blockwise(spec, 2).tried), derivatives(module_of(spec, "tensorflow").tried)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
        assert np.abs(other).max() > 0.01


def test_short_calls_are_taken_at_once() -> None:
    spec = SPECS["bottom-right"]
    chosen, direct = choosing_module_of(spec, "tensorflow", 12), module_of(spec, "tensorflow")
    for rows, calls in ((3, 1), (4, 1)):
        given = lengths(rows, 4)
        for found, expected in zip(results(chosen.tried)(*given), results(direct.tried)(*given), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-12)
        assert chosen._direct.call_count == calls


@pytest.mark.parametrize("traced", [False, True])
def test_derivatives_by_numbers_are_refused_by_name(traced: bool) -> None:
    """None is better than one of zero."""

    def slope(cap: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(cap)
            output = function("gemma2_blockwise", "tensorflow")(X, X, X, cap=cap)
        return tape.gradient(output, cap)

    missing = "tensorflow: the blockwise form has no derivative by `cap`; the direct form has"
    with pytest.raises(tf.errors.InvalidArgumentError, match=missing):
        (tf.function(slope, autograph=False) if traced else slope)(tf.constant(2.0))


def test_forward_mode_inside_a_graph_and_xla_are_refused() -> None:
    attend = function("causal_gqa_blockwise", "tensorflow")

    def ahead(x: tf.Tensor) -> tf.Tensor:
        with tf.autodiff.ForwardAccumulator(x, x) as forward:
            output = attend(x, X, X)
        return forward.jvp(output)

    with pytest.raises(TypeError, match="variant"):
        tf.function(ahead, autograph=False)(X)
    with pytest.raises(tf.errors.InvalidArgumentError, match="tf2xla conversion failed"):
        tf.function(attend, autograph=False, jit_compile=True)(X, X, X)


def test_windows_beyond_all_lengths_are_open() -> None:
    """Positions plus the longest window do not fit into 64 bits."""
    attend = function("gemma2_blockwise", "tensorflow")
    np.testing.assert_array_equal(attend(X, X, X, left=2**63 - 1), attend(X, X, X, left=5))
    assert int(_within_reach(-(2**63))) == -(2**61)


def test_extremes_are_those_of_all_rows() -> None:
    least, greatest = _extremes(tf.constant([[3, 1, 2], [5, 1, -1]]), 2)
    assert (least.numpy().tolist(), greatest.numpy().tolist()) == ([1, -1], [5, 2])


def test_positions_in_blocks_end_where_the_sequence_ends() -> None:
    assert _in_blocks(tf.constant([True, False, True]), 4, 10).numpy().tolist() == [0, 1, 2, 3, 8, 9]
    assert _in_blocks(False, 4, 10).shape == (0,)
    assert _in_blocks(True, 4, 0).shape == (0,)


def test_what_blocks_make_is_joined_and_what_they_add_is_added() -> None:
    x = tf.reshape(tf.range(2 * 5 * 3.0), (2, 1, 5, 3))  # (B, N, T, H)

    def of_block(start: tf.Tensor, stop: tf.Tensor, total: tf.Tensor) -> Any:
        return x[:, :, start:stop], (_added(total, tf.constant([1, 3]), x[:, :, :2]),)

    joined, (total,) = _by_blocks(of_block, 2, (5, 2, 1, 3), tf.float32, tf.zeros((4, 2, 1, 3)))
    np.testing.assert_array_equal(joined, tf.transpose(x, (2, 0, 1, 3)))
    np.testing.assert_array_equal(total[3], 3 * x[:, :, 1])
    assert not total.numpy()[[0, 2]].any()
