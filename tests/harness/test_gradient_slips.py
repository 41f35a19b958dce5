"""Slips of a backward pass: each verdict is what a call with that slip gives, made from right calls alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.causes.gradient_slips import gradient_slips
from attnspec.harness.causes.search import Witness, explain
from attnspec.harness.configuration import TensorPlan
from attnspec.harness.error_bounds import Array
from attnspec.harness.lanes.lane import Job, Lane
from attnspec.harness.oracle import Verdict, judge
from attnspec.harness.pool import Factors, configuration
from attnspec.harness.sizes import SHAPES
from attnspec.harness.subjects import generated_folder, user
from attnspec.spec.loader import builtin

SPEC = builtin()["jax.nn.dot_product_attention"]
BIASED = [each for each in pool(SPEC, "float32", 24) if "bias" in dict(each.tensors)]
# Heads in groups, and nothing hidden but what is in the future.
GROUPED = configuration(Factors.of(SPEC, "float32"), SHAPES[4], {**Factors.of(SPEC, "float32").simplest(), "is_causal": True})


def verdicts(case: Case, given: Mapping[str, Array]) -> dict[str, Verdict]:
    return {cause.text: found for cause, found in gradient_slips(SPEC, case, given, judge(SPEC, case, given, True))}


@pytest.mark.parametrize(("axis", "word"), [(0, "batch row"), (1, "head"), (2, "query")])
def test_the_first_and_the_last_part_of_a_sum_are_the_ends_of_what_is_not_summed(axis: int, word: str) -> None:
    """A bias that is repeated by the caller has a gradient of its own at every index: the broadcast one's is their sum."""
    for biased in BIASED:
        plan = dict(biased.tensors)["bias"]
        full = [dict(biased.sizes)[letter] for letter in "BNTS"]
        if len(plan.shape) == 4 and plan.shape[axis] == 1 < full[axis]:
            case = Case(biased, 1)
            given = arrays(case, SPEC)
            repeated = np.repeat(given["bias"], full[axis], axis)
            tensors = tuple({**dict(biased.tensors), "bias": TensorPlan(repeated.shape, plan.dtype)}.items())
            apart = judge(SPEC, Case(replace(biased, tensors=tensors), 1), {**given, "bias": repeated}, True)
            found = verdicts(case, given)
            for which, place in (("first", 0), ("last", -1)):
                text = f"the gradient of `bias` is that of the {which} {word}, declared the sum"
                expected = np.take(apart.gradients["bias"].value, [place], axis)
                np.testing.assert_allclose(found[text].gradients["bias"].value, expected, rtol=1e-9, atol=1e-12)
            return
    pytest.fail(f"no bias is broadcast along axis {axis}")


def test_heads_that_only_a_gradient_takes_from_the_other_end() -> None:
    """The gradient of the query is a product of that of the logits and the key."""
    assert GROUPED is not None
    case = Case(GROUPED, 1)
    given = arrays(case, SPEC)
    verdict, found = judge(SPEC, case, given, True), verdicts(case, given)
    text = "in the gradient of `query` key/value heads are taken from the other end"
    key = given["key"].astype(np.float64)
    expected = by_hand(case, given, key[:, :, ::-1])
    np.testing.assert_allclose(by_hand(case, given, key), verdict.gradients["query"].value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[text].gradients["query"].value, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found[text].gradients["key"].value, verdict.gradients["key"].value)
    assert np.abs(expected - verdict.gradients["query"].value).max() > 0.01


def by_hand(case: Case, given: Mapping[str, Array], key: Array) -> Array:
    """The gradient of the query from that of a bias of zeros, which is that of the scaled logits."""
    sizes = dict(case.configuration.sizes)
    shape = tuple(sizes[letter] for letter in "BNTS")
    bias = given.get("bias", np.zeros(shape, np.float32))
    whole = np.broadcast_to(bias if bias.ndim == 4 else bias[None], shape)
    tensors = tuple({**dict(case.configuration.tensors), "bias": TensorPlan(shape, "float32")}.items())
    full = Case(replace(case.configuration, tensors=tensors), case.seed)
    d_logits = judge(SPEC, full, {**given, "bias": whole}, True).gradients["bias"].value
    scale = dict(case.configuration.values).get("scale") or sizes["H"] ** -0.5
    gradient: Array = np.einsum("bnts,bsnh->btnh", d_logits, np.repeat(key, sizes["G"], 2)) * scale
    return gradient


def test_a_gradient_through_an_output_that_has_none_is_found_and_named(tmp_path: Path) -> None:
    """Nobody asks for it: the lane follows whatever the framework follows."""
    source = (generated_folder() / "torch" / f"{SPEC.module_name}.py").read_text(encoding="utf-8")
    assert source.count("residual = residual.detach()") == 1
    (tmp_path / "passing.py").write_text(source.replace("residual.detach()", "residual"), encoding="utf-8")
    subject = user(f"{tmp_path / 'passing.py'}:dot_product_attention", SPEC, "torch")
    flag = {"return_residual": True}
    returning = [each for each in pool(SPEC, "float32", 24) if flag.items() <= dict(each.values).items()][:2]
    cases = tuple(Case(each, 128) for each in returning)
    with Lane("torch") as lane:
        answers = [answer for (answer,) in lane.run(Job(SPEC, (subject,), cases, gradient=True))]
    found = explain(SPEC, [Witness(*pair, "gradients") for pair in zip(cases, answers, strict=True)])  # type: ignore[misc]
    assert [cause.text for cause in found.causes] == ["gradients pass through `residual`, declared to stop there"]


def test_cotangents_are_cut_on_their_way_in() -> None:
    case = Case(BIASED[0], 1)
    given = arrays(case, SPEC)
    cut = {**given, "d_output": np.clip(given["d_output"], -1, 1)}
    right, found = judge(SPEC, case, cut, True).gradients, verdicts(case, given)["cotangents are cut at 1"].gradients
    for name, gold in right.items():
        np.testing.assert_array_equal(found[name].value, gold.value)
