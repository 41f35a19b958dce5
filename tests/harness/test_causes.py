"""Causes: the perturbation that a planted fault is, is named from at most six failures; one cause is one finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.causes.perturbations import perturbations
from attnspec.harness.causes.search import Explanation, Witness, explain
from attnspec.harness.causes.stages import first_stage
from attnspec.harness.checks import CASE_CHECKS
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure
from attnspec.harness.conductor import Conductor
from attnspec.harness.crew import Crew
from attnspec.harness.facts import facts
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Returned, Tensor
from attnspec.harness.oracle import judge
from attnspec.harness.plan import PROFILES, Item, Plan
from attnspec.harness.recorder import PARTS, WITNESSES, Record
from attnspec.harness.subjects import Subject, user
from attnspec.spec.loader import builtin, find
from planted_bugs.faults import FAULTS, Fault, numpy
from planted_bugs.hunt import cases_of
from planted_bugs.naming import CAUSES, namings
from planted_bugs.wider_faults import FAULTS as WIDER

API = "jax.nn.dot_product_attention"
SPEC = builtin()[API]
FEW = replace(PROFILES["quick"], cases=8, gradient_cases=8, shrink_seconds=0.0)

# What each fault of the NumPy implementation is called: text in the cause. The last is not told apart where no row has a key.
NAMED = {
    "mask-polarity": "`mask.explicit` has the other polarity",
    "mask-dropped-when-bias-is-given": "`mask.explicit` is dropped",
    "rank-3-mask-read-as-batch": "`mask` of rank 3 is read as a batch without heads",
    "causal-aligned-bottom-right": "`mask.causal` is aligned bottom-right (`s <= t + (S - T)`), declared `s <= t`",
    "window-edge-off-by-one": "`mask.window` is one key narrower on the left",
    "window-sides-swapped": "`mask.window` has its sides swapped",
    "key-lengths-ignored": "`mask.key_length` is dropped",
    "key-length-off-by-one": "`mask.key_length` ends one key later",
    "rows-past-query-length-not-zeroed": "`rows.query_length` is dropped",
    "empty-row-is-nan": "an empty row is NaN, declared the mean of all values",
    "empty-row-is-zero": "an empty row is zero, declared the mean of all values",
    "fill-too-small": "hidden logits are replaced by -1e4",
    "masked-nan-leaks": "hidden logits are increased by -0.7 * max(float32)",
    "scale-by-model-dim": "the scale is (N * H) ** -0.5, of the model dim",
    "given-scale-ignored": "the scale is H ** -0.5 whatever is given",
    "heads-tiled-not-repeated": "key/value heads are tiled (n % K), declared repeated (n // G)",
    "bias-scaled-too": "`modifier.bias` comes before `modifier.scale`",
    "bias-of-first-head-for-all": "`bias` of the first head is taken for all",
    "output-left-in-float32": "`output` is left in float32",
    "log-sum-exp-base-2": "`residual` adds to the peak a logarithm to base 2",
    "delta-term-missing": "the softmax's gradient lacks its row sums (delta)",
    "scale-missing-in-d-key": "the gradient of `key` lacks the scale",
    "d-key-of-first-head-in-group": "the gradient of `key` is that of the first query head of a group",
    "d-bias-averaged-not-summed": "the gradient of `bias` is the mean over the axes that it broadcasts along",
    "padding-rows-leak-into-gradients": "`rows.query_length` is dropped",
    "gradient-flows-into-hidden-logits": "gradients reach hidden logits",
    "large-cotangents-cut": "cotangents are cut at 1",
    "softmax-overflows": "the softmax does not subtract the peak of a row",
    "softmax-in-input-dtype": "`softmax.dtype` is input, declared float32",
}
SHORT_LISTS = {"softmax-in-input-dtype"}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Witness]]:
    """Up to six failing calls of every fault, of the first check that sees it."""
    folder = tmp_path_factory.mktemp("faults")
    faults = [fault for fault in FAULTS if fault.name in NAMED and fault.framework == "numpy"]
    subjects = {fault.name: user(f"{fault.write(folder)}:{fault.function}", SPEC, "numpy") for fault in faults}
    with Crew([Lane("numpy")]) as crew:
        judged = list(crew.evidence(SPEC, tuple(subjects.values()), cases_of(SPEC, "numpy"), gradient=True))
    return {fault.name: list(witnesses(fault, subjects[fault.name], judged))[:WITNESSES] for fault in faults}


def witnesses(fault: Fault, subject: Subject, judged: list[Evidence | Case]) -> Iterator[Witness]:
    check, seen = fault.seen_by[0], set()
    for evidence in judged:
        assert isinstance(evidence, Evidence)
        answer, configuration = evidence.answers[subject.name], evidence.case.configuration
        alone = replace(evidence, answers={subject.name: answer})
        if isinstance(answer, Returned) and configuration not in seen and list(CASE_CHECKS[check](alone)):
            seen.add(configuration)
            yield Witness(evidence.case, answer, PARTS[check])


@pytest.mark.parametrize("name", NAMED)
def test_a_planted_fault_is_named(name: str, failures: dict[str, list[Witness]]) -> None:
    assert 0 < len(failures[name]) <= WITNESSES
    found = explain(SPEC, failures[name])
    texts = [cause.text for cause in found.causes]
    assert any(NAMED[name] in text for text in texts), texts
    assert (len(texts) > 1) == (name in SHORT_LISTS), texts


def answer_of(case: Case, changes: dict[str, float]) -> Returned:
    """The right answer, with some outputs multiplied."""
    golds = judge(SPEC, case, arrays(case, SPEC), False).outputs
    return Returned({n: Tensor((g.value * changes.get(n, 1)).astype(np.float32), "float32") for n, g in golds.items()})


CASES = [Case(configuration, 128) for configuration in pool(SPEC, "float32", 6)]


def test_what_is_no_single_change_has_no_cause() -> None:
    found = explain(SPEC, [Witness(case, answer_of(case, {"output": 1.37}), "outputs") for case in CASES])
    assert found == Explanation((), 0)


def test_a_wrong_gradient_of_grouped_heads_is_looked_at_where_hidden_keys_hold_nan() -> None:
    """There the oracle lets elements be NaN: what a cause picks of a gradient, it picks of these marks."""
    configurations = [each for each in pool(SPEC, "float32", 24) if dict(each.sizes).get("G", 1) > 1]
    for case in (Case(configuration, seed) for configuration in configurations for seed in range(200)):
        golds = judge(SPEC, case, arrays(case, SPEC), True).gradients
        if golds["key"].loose is not None:
            wrong = {name: Tensor((1.37 * gold.value).astype(np.float32), "float32") for name, gold in golds.items()}
            for tensor in wrong.values():
                tensor.array.flat[0] = np.nan
            assert explain(SPEC, [Witness(case, Returned({}, wrong), "gradients")]) == Explanation((), 0)
            return
    pytest.fail("no case has NaN in a hidden key")


def test_witnesses_have_other_values_where_some_have() -> None:
    """Whatever fails first and often: a call with other values and masks is among the few."""
    record = Record(Failure("subject", "oracle", "output", "NaN", ""), False)
    for number, configuration in enumerate(pool(SPEC, "float32", 24)):
        failure = replace(record.failure, case=Case(configuration, 128 + 19 * (number == 15)))
        record.failure = failure if number == 0 else record.failure
        record.add(failure, False)
    assert len(record.telling) == WITNESSES
    assert {case.seed for case in record.telling} == {128, 147}


def test_nothing_failed_nothing_explained() -> None:
    assert explain(SPEC, []) == Explanation((), 0)


@pytest.mark.parametrize("name", [*builtin(), "sink.toml", "several_outputs.toml"])
def test_every_perturbation_of_every_spec_can_be_judged_or_is_refused(name: str) -> None:
    """It may make a call invalid, which is a ValueError; it never breaks the oracle."""
    spec = find(str(Path(__file__).parents[1] / "specs" / name)) if name.endswith(".toml") else builtin()[name]
    judged = 0
    for configuration in pool(spec, "float32", 4):
        case = Case(configuration, 128)
        found = list(perturbations(spec, configuration))
        assert len({cause for cause, _ in found}) == len(found), "two perturbations of one name"
        for _, changed in found:
            try:
                judged += bool(judge(changed, case, arrays(case, spec), True).outputs)
            except ValueError:
                continue
    assert judged > 20


def test_keys_that_are_not_appended_are_a_cause_with_all_that_goes_with_them() -> None:
    """The call with the flag and without what it appends is the call without the flag, masks and weights included."""
    spec = find("torch.nn.functional.multi_head_attention_forward")
    flagged = [each for each in pool(spec, "float64", 24) if dict(each.values)["add_zero_attn"]]
    for configuration in flagged[:6]:
        case = Case(configuration, 1)
        given = arrays(case, spec)
        (dropped,) = (other for cause, other in perturbations(spec, configuration) if cause.clause == "assemble.zero_key")
        values = tuple({**dict(configuration.values), "add_zero_attn": False}.items())
        without = judge(spec, Case(replace(configuration, values=values), 1), given, False).outputs
        for name, gold in judge(dropped, case, given, False).outputs.items():
            np.testing.assert_array_equal(gold.value, without[name].value)


def test_one_cause_is_one_finding_whose_first_line_is_the_cause(tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "causal-aligned-bottom-right")
    subject = user(f"{fault.write(tmp_path)}:{fault.function}", SPEC, "numpy")
    profile = replace(PROFILES["quick"], cases=64, gradient_cases=32, shrink_seconds=1.0)
    checks = ("answers", "oracle", "gradients", "arguments", "relations")
    plan = Plan((Item(SPEC, API, (subject,)),), profile, seed=3, lanes=("numpy",), dtypes=("float32",), checks=checks)
    (finding,) = Conductor(plan).run().findings
    title, cause, seen, *more = finding.lines()
    assert title == f"{subject.name}: {NAMED[fault.name]}"
    assert cause == f"  cause    equal on {finding.asked} of {finding.asked} failing cases"
    assert seen == "  seen     oracle: `output` is outside the bound"
    also = [line.split()[1] for line in more if line.startswith("  also ")]
    assert {"gradients:", "arguments:", "relations:"} <= set(also)


SMALLER_SIDE = numpy("smaller-side-for-both", "right = pair(window)", "right = [min(pair(window))] * 2", "oracle")


def test_what_passing_calls_rule_out_is_not_named(tmp_path: Path) -> None:
    """Where windows have a left side that is larger by one, it is one key narrower; where both sides are alike it is not."""
    subject = user(f"{SMALLER_SIDE.write(tmp_path)}:{SMALLER_SIDE.function}", SPEC, "numpy")
    cases = [Case(configuration, 128) for configuration in pool(SPEC, "float32", 24)]
    with Crew([Lane("numpy")]) as crew:
        judged = [each for each in crew.evidence(SPEC, (subject,), cases, gradient=False) if isinstance(each, Evidence)]
    rows = [(each.agrees(subject.name, "outputs"), each.case, each.answers[subject.name]) for each in judged]
    failed, passed = ([Witness(*row, "outputs") for agrees, *row in rows if agrees is way] for way in (False, True))
    assert [cause.text for cause in explain(SPEC, failed).causes] == ["`mask.window` is one key narrower on the left"]
    assert explain(SPEC, failed, passed) == Explanation((), 0)


def test_what_has_no_cause_is_one_finding_with_the_stage_at_which_it_differs(tmp_path: Path) -> None:
    subject = user(f"{SMALLER_SIDE.write(tmp_path)}:{SMALLER_SIDE.function}", SPEC, "numpy")
    profile = replace(PROFILES["quick"], shrink_seconds=3.0)
    plan = Plan((Item(SPEC, API, (subject,)),), profile, 2, lanes=("numpy",), dtypes=("float32",), checks=("oracle",))
    (finding,) = Conductor(plan).run().findings
    assert (finding.causes, finding.also) == ((), ("oracle: `residual`",))
    assert (
        "  stage    it first differs at `mask.window`, which every failing call has; by `softmax.plain`: `residual` is wrong"
        in (finding.lines())
    )


def test_where_few_calls_are_compiled_more_of_them_tell_causes_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only one has a scale of 1 / 2: a gradient that lacks it is also one that is added twice."""
    fault = next(fault for fault in FAULTS if fault.name == "scale-missing-in-d-key")
    subject = user(f"{fault.write(tmp_path)}:{fault.function}", SPEC, "numpy")
    for module in ("conductor", "recorder"):
        monkeypatch.setattr(f"attnspec.harness.{module}.COMPILED", {"numpy": 1})
    monkeypatch.setattr("attnspec.harness.conductor.FIRST", {"numpy": 7})
    assert facts(SPEC, pool(SPEC, "float32", 24)[7]).scope["scale"] == 0.5
    profile = replace(FEW, compiled_gradient_pool=1)
    plan = Plan((Item(SPEC, API, (subject,)),), profile, 1, lanes=("numpy",), dtypes=("float32",), checks=("gradients",))
    (finding,) = Conductor(plan).run().findings
    assert finding.causes == (NAMED[fault.name],)
    assert finding.failing == 1 < finding.asked


@pytest.mark.parametrize(
    ("wrong", "stage"),
    [
        ({"output"}, "behind `softmax.plain`: `residual` is right"),
        ({"output", "residual"}, "by `softmax.plain`: `residual` is wrong"),
    ],
)
def test_outputs_on_the_way_tell_the_stage(wrong: set[str], stage: str) -> None:
    """Of what every call has the log-sum-exp tells what comes before the softmax from what comes behind it."""
    cases = [case for case in CASES if dict(case.configuration.values).get("return_residual")]
    failed = [Witness(case, answer_of(case, dict.fromkeys(wrong, 1.37)), "outputs") for case in cases]
    plain = replace(cases[0], configuration=pool(SPEC, "float32", 1)[0])
    every = "`score.dot`, `modifier.scale`, `softmax.plain`, `combine.weighted`"
    assert first_stage(SPEC, failed, plain) == f"at one of {every}, which every call has; {stage}"


def test_gradients_of_a_wrong_output_are_no_finding_of_their_own(tmp_path: Path) -> None:
    """The backward pass of a wrong cap is neither that of the cap as declared nor that of the wrong one."""
    (naming,) = namings("gemma2", [each for each in WIDER if each.name == "cap-inside-alone"], tmp_path, FEW)
    (finding,) = naming.findings
    assert finding.causes == ("`modifier.softcap` only divides: `tanh(logit / cap)`",)
    assert finding.also[0] == "gradients: `query`, `key`, `value`"
    assert naming.is_alone
    assert CAUSES[naming.fault.name] in naming.said
    assert naming.scalars is not None
