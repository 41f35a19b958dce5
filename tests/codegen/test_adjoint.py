"""The derivative of every op: its printed gradient against central differences of its printed value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnspec.codegen.adjoint import adjoint
from attnspec.codegen.index_notation import LoweringError, Scope, lower
from attnspec.codegen.printer import Printer
from attnspec.codegen.program import Node, Op, Ref
from attnspec.codegen.support import numpy as support
from attnspec.codegen.targets import TARGETS
from attnspec.spec.expression import names, parse
from by_hand import Arrays, central_differences, random_arrays

SIZES = {"B": 2, "N": 4, "T": 3, "S": 5, "K": 2, "G": 2, "H": 3, "R": 4}
CANONICAL = {
    "x": ("B", "N", "T", "S"),
    "per_head": ("N",),
    "per_batch": ("B",),
    "per_row": ("B", "T"),
    "per_key": ("B", "S"),
    "query": ("B", "T", "N", "H"),
    "key": ("B", "S", "K", "H"),
    "table": ("N", "R"),
}
ORDER = CANONICAL["x"]
NUMPY = Printer(TARGETS["numpy"], batched=False)
DIFFERENTIABLE = [
    "x + per_head[n]",
    "x - per_head[n]",
    "per_head[n] - x",
    "-x",
    "x * per_head[n]",
    "x * per_batch[b]",
    "x * per_row[b,t] * per_key[b,s]",
    "per_batch[b] * per_head[n]",
    "per_key[b,s] / (2 + per_row[b,t] * per_row[b,t])",
    "x / (3 + tanh(per_head[n]))",
    "tanh(x)",
    "exp(x)",
    "log(2 + tanh(x))",
    "sigmoid(x)",
    "abs(x)",
    "x ** 2",
    "(2 + tanh(x)) ** 3",
    "where(x < per_key[b,s], x * x, per_row[b,t])",
    "min(x, per_head[n])",
    "max(x, per_head[n])",
    "x * (s - t)",
    "x + table[n, min(max(s - t + R // 2, 0), R - 1)]",
    "sum(h, query[b,t,n,h] * key[b,s,n//G,h])",
    "sum(h, tanh(query[b,t,n,h] + key[b,s,n//G,h]))",
    "sum(h, per_head[n] * tanh(query[b,t,n,h] + key[b,s,n//G,h]))",
]


def lowered(text: str) -> Node:
    tensors = {name: Ref(name, dims) for name, dims in CANONICAL.items()}
    scope = Scope(tensors, CANONICAL, {dim.lower(): dim for dims in CANONICAL.values() for dim in dims})
    return lower(parse(text), ORDER, scope, "under.test")


def run(node: Node, arrays: Arrays) -> np.ndarray:
    indices = {"s": np.arange(SIZES["S"]), "t": np.arange(SIZES["T"]), "compute": np.float64}
    names: dict[str, Any] = {**vars(support), **SIZES, **indices, **arrays}
    return np.asarray(eval(NUMPY.node(node)[0], names))


def gradients(node: Node, upstream: np.ndarray, arrays: Arrays) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for leaf, gradient in adjoint(node, Ref("upstream", node.dims), None):
        if leaf.name in arrays:
            found[leaf.name] = found.get(leaf.name, 0) + run(gradient, {**arrays, "upstream": upstream})
    return found


@pytest.mark.parametrize("text", DIFFERENTIABLE)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_the_gradient_of_every_op_is_its_slope(text: str, seed: int) -> None:
    node = lowered(text)
    read = names(parse(text)) & CANONICAL.keys()
    arrays = random_arrays(seed, **{name: tuple(SIZES[d] for d in CANONICAL[name]) for name in read})
    upstream = np.random.default_rng(seed).standard_normal(run(node, arrays).shape)
    expected = central_differences(lambda at: float((run(node, at) * upstream).sum()), arrays, 1e-6)
    found = gradients(node, upstream, arrays)
    for name, slope in expected.items():
        gradient = found.get(name, np.zeros_like(slope))
        assert gradient.shape == slope.shape, name
        np.testing.assert_allclose(gradient, slope, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("text", ["floor(x)", "x < per_head[n]", "t - s"])
def test_steps_and_indices_have_no_gradient(text: str) -> None:
    assert [leaf for leaf, _ in adjoint(lowered(text), Ref("upstream", ORDER), None) if leaf.name in CANONICAL] == []


def test_what_has_no_derivative_is_refused_by_name() -> None:
    node = Op("mod", (Ref("x", ORDER), Ref("x", ORDER)), ORDER)
    with pytest.raises(LoweringError, match="`mod` has no derivative"):
        list(adjoint(node, Ref("upstream", ORDER), None))
