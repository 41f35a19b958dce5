"""How far off each framework's exp, log, tanh and sigmoid are, in units of roundoff of their dtype.

The oracle's bounds (harness/oracle/elementwise.py) stand on these figures. Run it in an environment that has the framework:

    python benchmarks/elementary_functions.py numpy torch jax tensorflow

float32 is measured at 2^24 inputs against float64, float64 at 2^21 against long double, evenly over the binades in which
attention uses the function. Each framework runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
WIDE = {"float32": np.float64, "float64": np.longdouble}
COUNT = {"float32": 2**24, "float64": 2**21}
FUNCTIONS = ("exp", "log", "tanh", "sigmoid")

Function = Callable[[Any], Any]


def inputs(function: str, dtype: str) -> Any:
    """Magnitudes from 2^-20 to 2^4 (2^6 for log), evenly over the binades; both signs where the function has them."""
    count = COUNT[dtype]
    seeds = np.random.default_rng(0)
    magnitude = np.exp2(seeds.uniform(-20, 6 if function == "log" else 4, count))
    sign = 1.0 if function == "log" else np.where(seeds.random(count) < 0.5, -1.0, 1.0)
    return (magnitude * sign).astype(dtype)


def gold(function: str, x: Any) -> Any:
    """The function in a wider dtype."""
    if function == "sigmoid":
        tail = np.exp(-np.abs(x))
        return np.where(x >= 0, 1, tail) / (1 + tail)
    return getattr(np, function)(x)


def functions(framework: str) -> dict[str, Function]:
    """The framework's own functions, over NumPy arrays, compiled where it compiles."""
    if framework == "numpy":
        # NumPy has no sigmoid: generated code writes this one.
        return {"exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
    if framework == "torch":
        import torch

        return {name: _through(torch.from_numpy, getattr(torch, name), torch.Tensor.numpy) for name in FUNCTIONS}
    if framework == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        jax_of = {"exp": jax.numpy.exp, "log": jax.numpy.log, "tanh": jax.numpy.tanh, "sigmoid": jax.nn.sigmoid}
        return {name: _through(jax.jit(f), np.asarray) for name, f in jax_of.items()}
    if framework == "tensorflow":
        import tensorflow as tf

        return {name: _through(getattr(tf.math, name), np.asarray) for name in FUNCTIONS}
    raise SystemExit(f"expected numpy, torch, jax or tensorflow, got {framework!r}")


def _through(*steps: Function) -> Function:
    return lambda x: reduce(lambda value, step: step(value), steps, x)


def measure(framework: str) -> None:
    """One line per dtype and function: the largest error, and the input where it was."""
    for name, function in functions(framework).items():
        for dtype in UNIT:
            x = inputs(name, dtype)
            want = gold(name, x.astype(WIDE[dtype]))
            with np.errstate(all="ignore"):
                error = np.abs((function(x) - want) / want) / UNIT[dtype]
            # Results below the normal range have an absolute error, which the bounds carry as eta.
            error = np.where(np.abs(want) < np.finfo(dtype).tiny, 0, error)
            worst = int(np.argmax(error))
            print(f"{framework:12}{name:9}{dtype:9}{float(error[worst]):7.2f} u at {x[worst]!r}", flush=True)


def main() -> None:
    """Measure the frameworks named on the command line."""
    if sys.argv[1:2] == ["--in-process"]:
        measure(sys.argv[2])
        return
    for framework in sys.argv[1:] or ("numpy",):
        subprocess.run([sys.executable, __file__, "--in-process", framework], check=True)


if __name__ == "__main__":
    main()
