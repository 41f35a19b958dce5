"""Slips of a softmax: each is what a plain NumPy attention with that slip gives, and is then named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.causes.search import Witness, explain
from attnspec.harness.causes.softmax_slips import softmax_slips
from attnspec.harness.configuration import Configuration
from attnspec.harness.error_bounds import Array
from attnspec.harness.lanes.messages import Returned, Tensor
from attnspec.harness.oracle import judged
from attnspec.harness.profiles import seed_for
from attnspec.spec.loader import builtin

SPEC = builtin()["causal_gqa"]
HUGE = ("peaked", "huge")
Weights = Callable[[Array, Array], Array]


def over(axis: int) -> Weights:
    """The softmax over another axis; what sees nothing there is zero, as the spec has it."""

    def weights(logits: Array, visible: Array) -> Array:
        hidden = np.where(visible, logits, -np.inf)
        peak = hidden.max(axis, keepdims=True)
        term = np.exp(hidden - np.where(np.isfinite(peak), peak, 0))
        total = term.sum(axis, keepdims=True)
        return np.where(total == 0, 0, term / np.where(total == 0, 1, total))

    return weights


def summed_over(axis: int) -> Weights:
    def weights(logits: Array, visible: Array) -> Array:
        hidden = np.where(visible, logits, -np.inf)
        term = np.exp(hidden - hidden.max(-1, keepdims=True))
        return term / term.sum(axis, keepdims=True)

    return weights


def unshifted(most: float = np.inf) -> Weights:
    def weights(logits: Array, visible: Array) -> Array:
        cut = np.minimum(logits, most).astype(np.float32)
        term = np.exp(np.where(visible, cut, -np.inf), dtype=np.float32)
        return term / term.sum(-1, keepdims=True, dtype=np.float32)

    return weights


WRONG = {
    "the softmax is over queries, declared over keys": over(-2),
    "the softmax is over heads, declared over keys": over(-3),
    "the softmax's sum is over queries, declared over keys": summed_over(-2),
    "the softmax's sum is over heads, declared over keys": summed_over(-3),
    "the softmax does not subtract the peak of a row": unshifted(),
    "the softmax cuts logits at 11, where float16 ends, and subtracts no peak": unshifted(11),
    "the softmax cuts logits at 88, where float32 ends, and subtracts no peak": unshifted(88),
}


def attention(configuration: Configuration, given: dict[str, Array], weights: Weights) -> Array:
    """`causal_gqa` with other weights."""
    query, key, value = (given[name].astype(np.float64) for name in ("query", "key", "value"))
    groups = query.shape[2] // key.shape[2]
    key, value = np.repeat(key, groups, 2), np.repeat(value, groups, 2)
    scale = dict(configuration.values).get("scale") or query.shape[-1] ** -0.5
    logits = np.einsum("btnh,bsnh->bnts", query, key) * scale
    visible = np.arange(key.shape[1]) <= np.arange(query.shape[1])[:, None]
    with np.errstate(all="ignore"):
        return np.einsum("bnts,bsnv->btnv", weights(logits, np.broadcast_to(visible, logits.shape)), value)


@pytest.mark.parametrize("text", WRONG)
def test_a_slip_of_the_softmax_is_what_plain_numpy_makes_of_it_and_is_named(text: str) -> None:
    witnesses = []
    for number, configuration in enumerate(pool(SPEC, "float32", 5)[1:]):
        case = Case(configuration, seed_for(HUGE[number % 2]))
        given = arrays(case, SPEC)
        plan = next(plan for cause, plan in softmax_slips(SPEC, configuration) if cause.text == text)
        wrong, gold = attention(configuration, given, WRONG[text]), judged(plan, given, False).outputs["output"]
        np.testing.assert_array_equal(np.isnan(gold.value), np.isnan(wrong))
        assert not (np.abs(gold.value - wrong) > gold.bound + 1e-12).any()
        if number:
            answer = Returned({"output": Tensor(wrong.astype(np.float32), "float32")})
            witnesses.append(Witness(case, answer, "outputs"))
    assert text in [cause.text for cause in explain(SPEC, witnesses).causes]
