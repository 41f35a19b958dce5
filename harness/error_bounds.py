"""A-priori error bounds, element by element: the unit roundoffs of a path, and how far rounding moves each operation.

Every rule bounds |computed - exact| for any correct implementation that works in the dtypes its path declares, whatever
its order of summation, blocking or fusion: nothing here is a tolerance. Standard model, gamma_n and dot products: Higham,
Accuracy and Stability of Numerical Algorithms, section 3. Softmax and log-sum-exp: Blanchard, Higham & Higham, IMA J.
Numer. Anal. 41(4), 2021. An error of 0.0 (a float) means exact and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnspec.spec.model import Policy

Array = NDArray[Any]
Error = Array | float

UNIT: Mapping[str, float] = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
LARGEST: Mapping[str, float] = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": float.fromhex("0x1.fep127"),
}
# What may become zero: the smallest normal, as compilers flush subnormals; float16 has hardware that keeps them.
ETA: Mapping[str, float] = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-24, "bfloat16": 2.0**-126}
GOLD: Mapping[str, type[np.floating[Any]]] = {"float64": np.longdouble}


def gold_dtype(dtype: str) -> type[np.floating[Any]]:
    """The dtype in which the oracle judges a subject of `dtype`."""
    return GOLD.get(dtype, np.float64)


@dataclass(frozen=True, slots=True)
class Units:
    """Unit roundoffs of one path at one storage dtype, each with the oracle's own roundoff added.

    `accumulate` is u_a of products (never under float32: no implementation sums in half), `logit` u_s, `softmax` the u_a
    of the softmax, `total` that of its sum (never under float32 either), `weight` u_p, `combine` the u_a of the second
    product, `output` u_o: the storage dtype. `eta` is what anything may lose that becomes zero, `exponential` what one of
    the softmax's exponentials may lose beyond that.
    """

    accumulate: float
    logit: float
    softmax: float
    total: float
    weight: float
    combine: float
    output: float
    eta: float
    exponential: float

    @classmethod
    def of(cls, policies: Mapping[str, Policy], dtype: str) -> Units:
        """The units that the policies of a path declare for inputs of `dtype`."""
        gold = float(np.finfo(gold_dtype(dtype)).eps)
        logit = UNIT[declared(policies["logits.dtype"], dtype)]
        softmax = UNIT[declared(policies["softmax.dtype"], dtype)]
        storage = UNIT[dtype]
        held = policies["weights.dtype"].value == "softmax"
        wide = min(storage, UNIT["float32"])
        return cls(
            accumulate=max(wide, min(logit, UNIT["float32"])) + gold,
            logit=logit + gold,
            softmax=softmax + gold,
            total=min(softmax, UNIT["float32"]) + gold,
            weight=(softmax if held else storage) + gold,
            combine=max(wide, min(softmax, UNIT["float32"]) if held else 0.0) + gold,
            output=storage + gold,
            eta=max(ETA[dtype], ETA[declared(policies["softmax.dtype"], dtype)]),
            exponential=ETA[declared(policies["softmax.dtype"], dtype)],
        )


def declared(policy: Policy, dtype: str) -> str:
    """The dtype that a policy names: `input`, `float32`, `at least float32`."""
    if policy.value == "input":
        return dtype
    return "float64" if policy.value == "at least float32" and dtype == "float64" else "float32"


def gamma(count: int, unit: float) -> float:
    """gamma_n = n u / (1 - n u): the relative error of n roundings; infinite where it says nothing."""
    product = count * unit
    return product / (1.0 - product) if product < 1.0 else float("inf")


def exact(error: Error) -> bool:
    """Whether there is no error at all."""
    return isinstance(error, float) and error == 0.0


def size(value: Array) -> Array:
    """Magnitudes, in float64 whatever the values are in: bounds need no more."""
    magnitude: Array = np.abs(value)
    return magnitude if magnitude.dtype == np.float64 else magnitude.astype(np.float64)


def product_error(left: Array, left_error: Error, right: Array, right_error: Error, relative: float) -> Array:
    """Error of `left @ right` from magnitudes and errors; `relative` is the rounding of the product itself.

    |AB - A'B'| <= rel |A||B| + eA |B| + (|A| + eA) eB, in as few products as the exact parts allow.
    """
    result: Array
    if exact(right_error):
        result = relative * (left @ right) if exact(left_error) else (left * relative + left_error) @ right
    elif exact(left_error):
        result = left @ (right * relative + right_error)
    else:
        result = (left * relative + left_error) @ right + (left + left_error) @ right_error
    return result


def whole(error: Error, shape: tuple[int, ...]) -> Array:
    """The error as an array of its value's shape, a view."""
    if isinstance(error, float) or error.shape != shape:
        return np.broadcast_to(np.asarray(error, np.float64), shape)
    return error


def growth(error: Array) -> Array:
    """expm1(x), bounded by x / (1 - x/2) where x < 1 (compare the series): one division instead of a function call."""
    if error.size == 0 or error.max() < 1.0:
        grown: Array = error / (1.0 - 0.5 * error)
        return grown
    # Beyond 300 the bound says nothing anyway, and exp would overflow into NaN further on.
    capped: Array = np.expm1(np.minimum(error, 300.0))
    return capped


def softmax_error(weight: Array, logit: Array, error: Error, units: Units) -> tuple[Array, Array]:
    """(error of the weights, expected error of the logits per row) where `logit` holds the magnitudes of visible logits.

    rho_ij = expm1(e_ij + sum_l p_il e_il) + gamma_S + gamma_6 + 8u (Blanchard, Higham & Higham, section 4), gamma_S for the
    sum, which no implementation takes in half: only its terms and its result are rounded to u. To e the rounding of the
    shifted argument is added: 4u |s_ij| for s and its conversion (exp2), 2u max |s| for the shift. To the weight, what
    underflow takes: 2^n is also made as 2 * 2^(n-1), so as not to overflow at n = 128, and the factor is flushed where the
    exponential is under twice the smallest normal (oneDNN); the sum that it is divided by is at least 1.
    """
    u = units.softmax
    moved = logit * (4 * u)
    moved += logit.max(axis=-1, keepdims=True, initial=0.0) * (2 * u)
    moved += error
    mean = (weight * moved).sum(axis=-1, keepdims=True)
    rho = growth(moved + mean)
    rho += gamma(weight.shape[-1], units.total) + gamma(6, u) + 8 * u
    rho *= weight
    # A weight is never further off than 1: this keeps a hopeless row's bound a number.
    np.minimum(rho, 1.0, out=rho)
    rho += units.eta + units.exponential
    return rho, mean


def log_sum_exp_error(mean: Array, largest: Array, result: Array, count: int, units: Units) -> Array:
    """|d lse| <= expm1(sum p e) + gamma_{S+6} + u (|max| + 2 |lse|) + its own rounding to the storage dtype."""
    u = units.softmax
    moved: Array = growth(mean) + gamma(count + 6, u) + u * (size(largest) + 2 * size(result)) + 2 * units.output * size(result)
    return moved


def row_sum_error(weight: Array, weight_error: Array, terms: Array, term_error: Error, magnitude: Array, units: Units) -> Array:
    """d_i, the error of Delta = sum_j p dP, however it is computed: over the keys, or as sum_d dO O from a rounded O.

    `magnitude` is |dO| |V|^T: the second way errs by at most sum_j (eP + (gamma_S + gamma_V + 2u_p + 2u_o) p) magnitude. Behind
    a projection dO and V are inexact themselves: `term_error`, that of dP, holds |e_dO| |V|^T + |dO| |e_V|^T and their product,
    so what O errs by meets magnitude + term_error.
    """
    keys = weight.shape[-1]
    u = units.softmax
    direct = weight_error * (terms + term_error) + weight * term_error + gamma(keys, u) * weight * magnitude
    rounding = gamma(keys + 3, units.combine) + gamma(keys, u) + 2 * units.weight + 2 * units.output
    through_output = (weight_error + rounding * weight) * (magnitude + term_error) + weight * term_error
    larger: Array = np.maximum(direct.sum(axis=-1, keepdims=True), through_output.sum(axis=-1, keepdims=True))
    return larger
