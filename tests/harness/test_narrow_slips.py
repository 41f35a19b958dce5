"""Half precision by name: each rounding is that of plain NumPy, and every plan with a step of its own can be judged."""

from __future__ import annotations

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.causes.narrow_slips import narrow_slips
from attnspec.harness.causes.softmax_slips import softmax_slips
from attnspec.harness.error_bounds import Array
from attnspec.harness.oracle import judged
from attnspec.harness.profiles import seed_for
from attnspec.harness.storage import bfloat16
from attnspec.spec.loader import builtin

SPEC = builtin()["causal_gqa"]


@pytest.mark.parametrize(("dtype", "values"), [("float16", "peaked"), ("float16", "vast"), ("bfloat16", "peaked")])
def test_logits_in_half_are_those_that_plain_numpy_rounds(dtype: str, values: str) -> None:
    """Products that are held in half, then float32; in float16 some of the vast ones are infinite."""

    def held(array: Array) -> Array:
        return bfloat16(array) if dtype == "bfloat16" else array.astype(np.float16).astype(np.float32)

    infinite = False
    for configuration in pool(SPEC, dtype, 6)[1:]:
        case = Case(configuration, seed_for(values))
        given = arrays(case, SPEC)
        query, key, value = (given[name].astype(np.float64) for name in ("query", "key", "value"))
        key, value = (np.repeat(each, query.shape[2] // key.shape[2], 2) for each in (key, value))
        scale = dict(configuration.values).get("scale") or query.shape[-1] ** -0.5
        with np.errstate(all="ignore"):
            logits = held(np.einsum("btnh,bsnh->bnts", query, key)) * scale
            logits = np.where(np.arange(key.shape[1]) <= np.arange(query.shape[1])[:, None], logits, -np.inf)
            terms = np.exp(logits - logits.max(-1, keepdims=True))
            wrong = np.einsum("bnts,bsnv->btnv", terms / terms.sum(-1, keepdims=True), value)
        plans = [plan for cause, plan in narrow_slips(SPEC, configuration) if cause.clause == "logits.dtype"]
        gold = judged(plans[0], given, False).outputs["output"]
        np.testing.assert_array_equal(np.isnan(gold.value), np.isnan(wrong))
        assert not (np.abs(gold.value - wrong) > gold.bound).any()
        infinite = infinite or bool(np.isnan(wrong).any())
    assert infinite == (values == "vast")


@pytest.mark.parametrize("name", builtin())
def test_every_slip_of_every_spec_can_be_judged(name: str) -> None:
    spec = builtin()[name]
    judgements = 0
    for configuration in pool(spec, "float16", 3):
        given = arrays(Case(configuration, 128), spec)
        for _, plan in (*softmax_slips(spec, configuration), *narrow_slips(spec, configuration)):
            verdict = judged(plan, given, True)
            judgements += verdict.outputs.keys() == {result.output.name for result in plan.results}
    assert judgements > 20
