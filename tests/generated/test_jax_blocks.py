"""The blockwise form of jax: the same as the direct form, a program whose size does not depend on lengths, memory of blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Jaxpr

from attnspec.codegen.blocks.analysis import analyse
from attnspec.codegen.blocks.table import SKIP, block_table
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.blockwise.coverage import masks
from attnspec.codegen.support.jax import _block_length, _block_of, _extremes, _in_blocks, _joined, _within_reach
from attnspec.spec.model import Spec
from blockwise_specs import LOOKED_UP, SPECS, looked_up
from builtin_calls import function
from by_hand import random_arrays
from compiling import blockwise_module_of, module_of

pytestmark = pytest.mark.xdist_group("jax")
Attention = Callable[..., jax.Array]


def blockwise(spec: Spec, block: int) -> ModuleType:
    """The blockwise module of a spec, in blocks of that length."""
    module = blockwise_module_of(spec, "jax")
    vars(module)["BLOCK"] = block
    return module


def results(attend: Attention, arrays: dict[str, np.ndarray]) -> list[jax.Array]:
    """The output, and the gradient of every array, in one compilation."""

    def both(*given: jax.Array) -> Any:
        output, pull = jax.vjp(attend, *given)
        return output, *pull(jnp.cos(output))

    with jax.enable_x64(True):
        return list(jax.jit(both)(*arrays.values()))


def test_second_derivatives_are_those_of_the_direct_form() -> None:
    """Reverse mode over reverse mode, and forward mode over reverse mode, by a number too."""
    spec, arrays = SPECS["chunks of a window"], list(lengths(5, 6).values())

    def derivatives(attend: Attention) -> Any:
        def slopes(query: jax.Array, scale: jax.Array) -> jax.Array:
            return jax.grad(lambda at: jnp.square(attend(at, *arrays[1:], scale=scale)).sum())(query)

        def both(query: jax.Array, scale: jax.Array) -> Any:
            twice = jax.grad(lambda at: jnp.square(slopes(at, scale)).sum())(query)
            return twice, jax.jvp(slopes, (query, scale), (jnp.cos(query), jnp.ones(())))[1]

        with jax.enable_x64(True):
            return jax.jit(both)(arrays[0], 0.5)

    for found, expected in zip(derivatives(blockwise(spec, 4).tried), derivatives(module_of(spec, "jax").tried), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-11)
        assert np.abs(expected).max() > 0.01


def lengths(rows: int, keys: int) -> dict[str, np.ndarray]:
    return random_arrays(rows, query=(1, rows, 2, 3), key=(1, keys, 1, 3), value=(1, keys, 1, 2))


@pytest.mark.parametrize(
    ("name", "rows", "keys"),
    [
        ("bottom-right", 11, 7),
        ("two ranges", 13, 11),
        ("far apart", 40, 37),
        ("chunks of a window", 17, 17),
        ("documents", 13, 11),
        ("lengths", 11, 13),
    ],
)
def test_blocks_give_what_the_direct_form_gives(name: str, rows: int, keys: int) -> None:
    """Blocks of at most 4: some filled up, some queries without a key, several ranges of keys."""
    spec, arrays = {**SPECS, **LOOKED_UP}[name], lengths(rows, keys)
    entries = looked_up(spec, rows, rows, keys)
    arrays = {name: np.concatenate([array, -array]) for name, array in arrays.items()} if entries else arrays
    direct, blocks = (functools.partial(module.tried, **entries) for module in (module_of(spec, "jax"), blockwise(spec, 4)))
    for found, expected in zip(results(blocks, arrays), results(direct, arrays), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("batch", "rows", "keys"), [(1, 0, 3), (1, 3, 0), (0, 3, 3)])
def test_nothing_to_attend_with_or_to_is_no_special_case(batch: int, rows: int, keys: int) -> None:
    """Traced alone: the shapes say it."""
    query, key = jnp.ones((batch, rows, 2, 3)), jnp.ones((batch, keys, 1, 3))
    attend = function("causal_gqa_blockwise", "jax")
    assert jax.eval_shape(attend, query, key, key).shape == query.shape
    gradients = jax.eval_shape(jax.grad(total(attend), argnums=(0, 1)), query, key, key)
    assert [gradient.shape for gradient in gradients] == [query.shape, key.shape]


@pytest.mark.parametrize("name", SPECS)
def test_the_blocks_that_are_visited_are_those_of_the_analysis(name: str) -> None:
    spec, rows, keys = SPECS[name], 40, 37
    module = blockwise(spec, 4)
    given = {a.name: a.default for a in spec.arguments if a.role == "integer"}
    visible = module._visible
    names = visible.__code__.co_varnames[4 : visible.__code__.co_argcount]
    order, counts = visible(rows, keys, 4, 4, *(given[each] for each in names))
    table = block_table(analyse(masks(spec), vocabulary_of(spec)), {"T": rows, "S": keys, **given}, (4, 4))[0, 0]
    for row, count, states in zip(np.asarray(order), counts, table, strict=True):
        assert list(row[:count]) == list(np.flatnonzero(states != SKIP))


def equations(jaxpr: Jaxpr) -> int:
    """How many equations a program has, inside loops and calls too."""
    inner = (getattr(v, "jaxpr", v) for e in jaxpr.eqns for v in jax.tree.leaves(list(e.params.values()), is_leaf=is_jaxpr))
    return len(jaxpr.eqns) + sum(equations(each) for each in inner if hasattr(each, "eqns"))


def is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def total(attend: Attention) -> Callable[..., jax.Array]:
    return lambda *at: attend(*at).sum()


@pytest.mark.parametrize("name", ["causal_gqa", "gemma2", "longformer"])
def test_the_program_has_the_same_size_for_every_length(name: str) -> None:
    gradient = jax.grad(total(function(f"{name}_blockwise", "jax")), argnums=(0, 1, 2))
    sizes = set()
    for length in (256, 4096):
        x = jax.ShapeDtypeStruct((1, length, 2, 4), jnp.float32)
        sizes.add(equations(jax.make_jaxpr(gradient)(x, x, x).jaxpr))
    assert len(sizes) == 1


def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    """What a compiled gradient needs beside its arguments and results."""
    gradient = jax.jit(jax.grad(total(function("causal_gqa_blockwise", "jax")), argnums=(0, 1, 2)))
    needed = []
    for length in (1024, 2048):
        x = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
        needed.append(gradient.lower(x, x, x).compile().memory_analysis().temp_size_in_bytes)
    assert needed[1] <= 2.1 * needed[0]
    assert needed[1] < 2 * 2048 * 2048 * 4


X = jnp.ones((1, 5, 2, 3))


def test_forward_mode_is_refused() -> None:
    attend = function("causal_gqa_blockwise", "jax")
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jit(lambda x: jax.jvp(lambda y: attend(y, X, X), (x,), (x,))).lower(X)


def test_derivatives_by_numbers_are_refused_by_name() -> None:
    """None is better than one of zero."""
    attend = function("gemma2_blockwise", "jax")
    with pytest.raises(NotImplementedError, match="jax: the blockwise form has no derivative by `cap`; the direct form has"):
        jax.eval_shape(jax.grad(lambda cap: attend(X, X, X, cap=cap).sum()), 2.0)


def test_windows_beyond_all_lengths_are_open() -> None:
    """Positions plus the longest window do not fit into 32 bits."""
    attend = function("gemma2_blockwise", "jax")
    found, expected = (jax.jit(lambda n: attend(X, X, X, left=n))(left) for left in (2**31 - 1, 5))
    np.testing.assert_array_equal(found, expected)
    assert int(_within_reach(-(2**31))) == -(2**29)


@pytest.mark.parametrize(("length", "most", "expected"), [(0, 4, 1), (1, 4, 1), (4, 4, 4), (5, 4, 3), (300, 128, 100)])
def test_blocks_are_even(length: int, most: int, expected: int) -> None:
    assert _block_length(length, most) == expected


def test_an_array_in_blocks_is_joined_to_what_it_was() -> None:
    array = jnp.arange(2 * 3 * 7 * 2.0).reshape(2, 3, 7, 2)
    blocks = _in_blocks(array, 4)
    assert blocks.shape == (2, 2, 3, 4, 2)
    assert not blocks[1, :, :, 3].any()
    np.testing.assert_array_equal(_joined(blocks, 7), array)
    assert _in_blocks(array[:, :, :0], 1).shape == (1, 2, 3, 1, 2)


def test_extremes_are_those_of_all_rows_and_of_what_is_there() -> None:
    least, greatest = _extremes(jnp.array([[3, 1, 2], [5, 1, -1]]), 2)
    assert (least.tolist(), greatest.tolist()) == ([1, -1], [5, 2])
    assert [each.shape for each in _extremes(jnp.zeros((0, 0), int), 2)] == [(1,), (1,)]


def test_a_block_of_entries_is_filled_up_where_the_sequence_ends() -> None:
    assert _block_of(jnp.array([[3, 1, 2]]), 2, 2).tolist() == [[2, 0]]
