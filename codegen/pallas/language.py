"""Kernels in Pallas, on jax's arrays: what is no array is known when a kernel is traced, and a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from attnspec.codegen.kernels.language import Language, Parameter
from attnspec.codegen.printer import Target
from attnspec.codegen.targets.jax import JAX
from attnspec.spec.expression import Binary, Call, Expression, Name, Unary
from attnspec.spec.model import Spec

AROUND = replace(
    JAX,
    imports=(
        "import jax",
        "import jax.numpy as jnp",
        "from jax import Array, lax",
        "from jax.experimental import pallas as pl",
        "from jax.experimental.pallas import triton as plgpu",
    ),
    array_type="Array",
)
"""What is around the kernels is jax's, checks of arguments and all."""
_KERNEL = Target(
    name="pallas",
    ops={
        "not": "~{0}",
        "where": "jnp.where({0}, {1}, {2})",
        "min": "jnp.minimum({0}, {1})",
        "max": "jnp.maximum({0}, {1})",
        "floor": "jnp.floor({0})",
        "exp": "jnp.exp({0})",
        "log": "jnp.log({0})",
        "tanh": "jnp.tanh({0})",
        "sigmoid": "jax.nn.sigmoid({0})",
        "abs": "jnp.abs({0})",
    },
    guards={
        "is_floating": "jnp.issubdtype({0}.dtype, jnp.floating)",
        "is_boolean": "{0}.dtype == jnp.bool_",
    },
    infinity="-jnp.inf",
    float32="jnp.float32",
    fill_max="",
    array_type="",
    imports=(),
)


def _listed(parameters: Sequence[Parameter]) -> dict[str, tuple[str, ...]]:
    """What a call has besides query, key and value, as the skeleton names its parts."""
    tensors = tuple(p.name for p in parameters if p.is_tensor)
    numbers = tuple(p.name for p in parameters if not p.is_tensor)
    return {
        "tensors": tensors,
        "numbers": numbers,
        "named_numbers": tuple(f"{name}={name}" for name in numbers),
        "given": (*tensors, *numbers),
    }


def _ordered(parameters: Sequence[Parameter]) -> Sequence[Parameter]:
    """Tensors before numbers, by which jax.custom_vjp tells what has no gradient."""
    return sorted(parameters, key=lambda parameter: not parameter.is_tensor)


def lacks(spec: Spec) -> Iterator[str]:
    """What Triton's kernels have and these have not yet: a program counts heads from the first one that it is given."""
    for stage in spec.paths[0].stages:
        if stage.kind in ("modifier", "mask", "rows") and "n" in _outside_of_tensors(stage.expression):
            yield f"`{stage.clause}` reads `n`"


def _outside_of_tensors(expression: Expression) -> Iterator[str]:
    """The names of an expression, but for those that only say which entry is read."""
    match expression:
        case Name(name):
            yield name
        case Unary(_, operand):
            yield from _outside_of_tensors(operand)
        case Binary(_, left, right):
            yield from chain(_outside_of_tensors(left), _outside_of_tensors(right))
        case Call(_, arguments):
            yield from chain.from_iterable(map(_outside_of_tensors, arguments))


LANGUAGE = Language(
    name="pallas",
    around=AROUND,
    target=_KERNEL,
    entries={
        ("b",): "{tensor}[b]",
        ("n",): "_entry_of_head({tensor}, b, n)",
        ("b", "t"): "_entries({tensor}, b, t, T)",
        ("b", "s"): "_entries({tensor}, b, s, S)",
        ("b", "n", "t", "s"): "_entries_of_pairs({tensor}, b, n, t, s, T, S)",
    },
    extreme="_{function}({tensor}, b, {range})",
    to_float32="{0}.astype(jnp.float32)",
    functions="jnp",
    ceiling="pl.cdiv",
    permute="transpose",
    to_dtype="astype",
    entry_point="_attention",
    ordered=_ordered,
    checked={"integer": "_countable", "sizes": "_countable", "number": "_known"},
    indices=("b", "n", "T", "S"),
    block_indices=("b",),
    listed=_listed,
    seed="_seeds(seed, query)",
    drawn="_drawn(_entry_of_head(seed, b, n), {t}, {s})",
    seeds=True,
    first="_first(origin, b, {place})",
    zero="jnp.int32(0)",  # of two Python numbers, jax 0.10's lowering to Triton takes the type of the condition
    rounds_down=True,
    lacks=lacks,
)
