"""What really runs: the jaxprs of generated JAX hold no fused attention and never repeat a head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Jaxpr, JaxprEqn, Var

from builtin_calls import BLOCKWISE, CALLS, JAX_NN, SDPA, function
from capabilities import Example

pytestmark = pytest.mark.xdist_group("jax")
CUSTOM = ("custom", "attention", "flash", "cudnn", "pallas", "ffi", "callback", "dot_product")
ALLOWED = ("custom_jvp_call", "custom_vjp_call")
GROUPS, HEADS, KEYS, DEPTH = 4, 2, 5, 7
GROUPED: list[tuple[str, dict[str, Any]]] = [
    (SDPA, {"is_causal": True, "enable_gqa": True}),
    (JAX_NN, {"is_causal": True}),
    ("gemma2", {"left": 2}),
    ("causal_gqa", {}),
    ("gemma2_blockwise", {"left": 2}),
    ("causal_gqa_blockwise", {}),
]


def inner(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The jaxprs that an equation calls."""
    for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
        jaxpr = getattr(value, "jaxpr", value)
        if hasattr(jaxpr, "eqns"):
            yield jaxpr


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        for called in inner(equation):
            yield from equations(called)


def made_from(jaxpr: Jaxpr, sources: set[Var]) -> Iterator[Any]:
    """Arrays that hold a source, moved or cast but not yet multiplied with anything else; inside called jaxprs too."""
    found = set(sources)
    for equation in jaxpr.eqns:
        for called in inner(equation):
            passed = zip(called.invars, equation.invars, strict=False)
            yield from made_from(called, {v for v, outer in passed if isinstance(outer, Var) and outer in found})
        operands = [v for v in equation.invars if isinstance(v, Var)]
        if operands and all(v in found for v in operands):
            found |= set(equation.outvars)
            yield from (v.aval for v in equation.outvars)


def grouped_inputs(name: str) -> list[jax.Array]:
    """N = 8 and K = 2, all other sizes prime."""
    heads = {"query": GROUPS * HEADS, "key": HEADS, "value": HEADS}
    arrays = [jnp.ones((1, KEYS if n != "query" else 3, h, DEPTH)) for n, h in heads.items()]
    return [array.swapaxes(1, 2) for array in arrays] if name == SDPA else arrays


@pytest.mark.parametrize("call", [*CALLS, *BLOCKWISE], ids=lambda call: call.id)
def test_no_fused_attention_runs(call: Example) -> None:
    fixed, target = call.arguments({}, np.asarray), function(call.spec, "jax")
    arrays = {name: jnp.zeros(shape) for name, shape in call.shapes.items()}
    program = jax.make_jaxpr(jax.grad(lambda x: target(**x, **fixed).sum()))(arrays)
    names = {equation.primitive.name for equation in equations(program.jaxpr)}
    assert "dot_general" in names
    assert {n for n in names if any(word in n for word in CUSTOM) and n not in ALLOWED} == set()


@pytest.mark.parametrize(("name", "options"), GROUPED, ids=[name for name, _ in GROUPED])
def test_heads_are_never_repeated(name: str, options: dict[str, Any]) -> None:
    """Nothing that comes from key or value alone is larger than key or value."""
    inputs = grouped_inputs(name)
    program = jax.make_jaxpr(lambda *at: function(name, "jax")(*at, **options))(*inputs)
    for index in (1, 2):
        sizes = [a.size for a in made_from(program.jaxpr, {program.jaxpr.invars[index]})]
        assert max(sizes, default=0) <= inputs[index].size


@pytest.mark.parametrize(("name", "options"), GROUPED, ids=[name for name, _ in GROUPED])
def test_nothing_in_the_backward_pass_has_the_size_of_repeated_heads(name: str, options: dict[str, Any]) -> None:
    attend = function(name, "jax")
    program = jax.make_jaxpr(jax.grad(lambda *at: attend(*at, **options).sum(), argnums=(0, 1, 2)))(*grouped_inputs(name))
    sizes = {v.aval.size for equation in equations(program.jaxpr) for v in equation.outvars}
    assert GROUPS * HEADS * KEYS * DEPTH not in sizes


def repeating(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    key, value = (jnp.repeat(x, GROUPS, axis=2) for x in (key, value))
    weights = jax.nn.softmax(jnp.einsum("btnh,bsnh->bnts", query, key))
    return jnp.einsum("bnts,bsnh->btnh", weights, value)


@pytest.mark.parametrize("attend", [repeating, jax.jit(repeating)], ids=["plain", "inside jit"])
def test_the_walk_would_find_repeated_heads(attend: Callable[..., jax.Array]) -> None:
    inputs = grouped_inputs("causal_gqa")
    program = jax.make_jaxpr(attend)(*inputs)
    sizes = [a.size for a in made_from(program.jaxpr, {program.jaxpr.invars[1]})]
    assert max(sizes) == GROUPS * inputs[1].size
