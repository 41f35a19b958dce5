"""JAX: functions that jit, grad, jvp, vmap and hessian see through. The table is NumPy's with jax.numpy's names."""

from __future__ import annotations

from attnspec.codegen.printer import ATOM, Printer, Target
from attnspec.codegen.program import Op
from attnspec.codegen.targets.numpy import NUMPY


def _cast(printer: Printer, op: Op) -> str:
    to = op["to"]
    return f"{printer.operand(op.arguments[0], ATOM)}.astype({'jnp.float32' if to == 'float32' else to})"


def _einsum(printer: Printer, op: Op) -> str:
    a, b = (printer.node(argument)[0] for argument in op.arguments)
    return f"jnp.einsum({printer.einsum(op)}, {a}, {b}, preferred_element_type=compute)"


def _concat(printer: Printer, op: Op) -> str:
    return _renamed(NUMPY.ops["concat"], printer, op)


def _renamed(printed: object, printer: Printer, op: Op) -> str:
    assert callable(printed)
    return str(printed(printer, op)).replace("np.", "jnp.", 1)


def _broadcast(printer: Printer, op: Op) -> str:
    return _renamed(NUMPY.ops["broadcast"], printer, op)


def _broadcast_last(printer: Printer, op: Op) -> str:
    return _renamed(NUMPY.ops["broadcast_last"], printer, op)


_SHARED = {name: entry.replace("np.", "jnp.") if isinstance(entry, str) else entry for name, entry in NUMPY.ops.items()}

JAX = Target(
    name="jax",
    ops={
        **_SHARED,
        "arange": lambda printer, op: _renamed(NUMPY.ops["arange"], printer, op),
        "cast": _cast,
        "einsum": _einsum,
        "concat": _concat,
        "zeros": lambda printer, op: _renamed(NUMPY.ops["zeros"], printer, op),
        "broadcast": _broadcast,
        "broadcast_last": _broadcast_last,
        "sigmoid": "jax.nn.sigmoid({0})",
        "softmax": "jax.nn.softmax({0}, axis=-1)",
        "logsumexp": "jax.nn.logsumexp({0}, axis=-1)",
        "stop_gradient": "jax.lax.stop_gradient({0})",
    },
    guards=NUMPY.guards,
    infinity="-jnp.inf",
    float32="jnp.float32",
    fill_max="jnp.finfo(jnp.float32).max",
    array_type="jax.Array",
    imports=("import jax", "import jax.numpy as jnp"),
    concrete="_concrete({0})",
)
