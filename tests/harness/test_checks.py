"""Each check passes what is right and fails on what is wrong: a check that cannot fail is a defect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attnspec.harness import checks, tally
from attnspec.harness.cases import Case, Configuration, pool
from attnspec.harness.checks import answers, coverage, gradients, oracle, pairwise, preconditions
from attnspec.harness.checks.agreement import compare
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Answer, Lost, Raised, Returned, Tensor
from attnspec.harness.oracle import Gold, Verdict
from attnspec.harness.subjects import Subject
from attnspec.harness.tally import Share, Tally, can_vary, values_taken
from attnspec.spec.loader import builtin
from attnspec.spec.resolve import ShapeMismatch

SPEC = builtin()["jax.nn.dot_product_attention"]
SDPA = builtin()["torch.nn.functional.scaled_dot_product_attention"]
CASE = Case(pool(SPEC, "float32", 1)[0], 7)
NAN, INF = float("nan"), float("inf")


def gold(values: Any, bound: Any = 0.5, loose: Any = None, dtype: str = "float32") -> Gold:
    value = np.asarray(values, np.float64)
    bounds = np.broadcast_to(np.asarray(bound, np.float64), value.shape)
    return Gold(value, bounds, dtype, None if loose is None else np.asarray(loose))


def tensor(values: Any, dtype: str = "float32") -> Tensor:
    return Tensor(np.asarray(values, np.float32), dtype)


def evidence(*, gradient: bool = False, ill_conditioned: bool = False, **returned: Answer) -> Evidence:
    verdict = Verdict({"output": gold([1.0, 2.0])}, {"query": gold([3.0])} if gradient else {}, ill_conditioned)
    return Evidence(SPEC, CASE, verdict, returned, gradient)


def returned(output: Any, query: Any = None) -> Returned:
    return Returned({"output": tensor(output)}, {} if query is None else {"query": tensor(query)})


# -- agreement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "wanted", "ratio"),
    [
        ([1.0, 2.0], gold([1.0, 2.0]), 0.0),
        ([1.25, 2.5], gold([1.0, 2.0]), 1.0),
        ([NAN, INF], gold([NAN, INF]), 0.0),
        ([-INF, 2.0], gold([-INF, 2.0]), 0.0),
        ([1.25, 2.0], gold([1.0, 2.0], loose=[True, False]), 0.5),
        ([NAN, 2.0], gold([1.0, 2.0], loose=[True, False]), 0.0),
        ([9.0, 2.0], gold([1.0, 2.0], bound=[INF, 0.5]), 0.0),
        ([1.0, 2.0], gold([1.0, 2.0], bound=0.0), 0.0),
        ([], gold([]), 0.0),
    ],
)
def test_what_agrees(values: list[float], wanted: Gold, ratio: float) -> None:
    found = compare(tensor(values), wanted)
    assert found.agrees
    assert found.ratio == ratio


@pytest.mark.parametrize(
    ("got", "wanted", "seen"),
    [
        (tensor([1.0, 2.75]), gold([1.0, 2.0]), "outside the bound"),
        (tensor([1.0, NAN]), gold([1.0, 2.0]), "NaN"),
        (tensor([1.0, 2.0]), gold([1.0, NAN]), "a number where NaN belongs"),
        (tensor([1.0, INF]), gold([1.0, 2.0]), "outside the bound"),
        (tensor([1.0, INF]), gold([1.0, -INF]), "outside the bound"),
        (tensor([1.0, 1e30]), gold([1.0, INF]), "outside the bound"),
        (tensor([1.0, INF]), gold([1.0, 2.0], bound=[0.5, INF]), "outside the bound"),
        (tensor([1.0, 2.0 + 1e-6]), gold([1.0, 2.0], bound=0.0), "outside the bound"),
        (tensor([9.0, 2.0]), gold([1.0, 2.0], loose=[True, False]), "outside the bound"),
        (tensor([1.0, NAN]), gold([1.0, 2.0], loose=[True, False]), "NaN"),
        (tensor([[1.0, 2.0]]), gold([1.0, 2.0]), "wrong shape"),
        (tensor([1.0, 2.0], "float16"), gold([1.0, 2.0]), "wrong dtype"),
    ],
)
def test_what_does_not(got: Tensor, wanted: Gold, seen: str) -> None:
    found = compare(got, wanted)
    assert not found.agrees
    assert found.seen == seen
    assert found.ratio > 1


def test_the_worst_element_is_shown() -> None:
    worst = compare(tensor([[1.0, 2.0], [5.0, 3.0]]), gold([[1.0, 2.0], [3.0, 4.0]])).worst
    assert worst is not None
    assert (worst.index, worst.got, worst.want, worst.bound, worst.error_over_bound) == ((1, 0), 5.0, 3.0, 0.5, 4.0)


# -- one case -----------------------------------------------------------------------------------------------------


def failures(check: checks.CaseCheck, given: Evidence) -> list[tuple[str, str, str]]:
    found = list(check(given))
    assert all(each.case == CASE and each.api == SPEC.name for each in found)
    return [(each.subject, each.clause, each.seen) for each in found]


RIGHT = returned([1.0, 2.0], [3.0])
WRONG_OUTPUT = returned([1.0, 4.0], [3.0])
WRONG_GRADIENT = returned([1.0, 2.0], [5.0])


def test_oracle_fails_on_a_wrong_output_only() -> None:
    given = evidence(gradient=True, right=RIGHT, wrong=WRONG_OUTPUT, backward=WRONG_GRADIENT)
    assert failures(oracle.check, given) == [("wrong", "output", "outside the bound")]


def test_gradients_fails_on_a_wrong_gradient_only() -> None:
    given = evidence(gradient=True, right=RIGHT, wrong=WRONG_OUTPUT, backward=WRONG_GRADIENT)
    assert failures(gradients.check, given) == [("backward", "query", "outside the bound")]


def test_a_missing_gradient_is_a_failure() -> None:
    assert failures(gradients.check, evidence(gradient=True, a=returned([1.0, 2.0]))) == [("a", "query", "missing")]


def test_gradients_says_nothing_of_a_forward_case() -> None:
    assert failures(gradients.check, evidence(a=returned([1.0, 2.0]))) == []


@pytest.mark.parametrize("check", [oracle.check, gradients.check, pairwise.check])
def test_an_ill_conditioned_case_judges_nobody(check: checks.CaseCheck) -> None:
    assert failures(check, evidence(gradient=True, ill_conditioned=True, a=WRONG_OUTPUT, b=RIGHT)) == []


def test_pairwise_blames_the_one_that_stands_alone() -> None:
    given = evidence(a=RIGHT, b=WRONG_OUTPUT, c=RIGHT, d=RIGHT)
    assert failures(pairwise.check, given) == [("b", "output", "outside the bound")]


def test_pairwise_allows_the_sum_of_both_bounds() -> None:
    assert failures(pairwise.check, evidence(a=returned([0.5, 2.0]), b=returned([1.5, 2.0]))) == []
    assert failures(pairwise.check, evidence(a=returned([0.5, 2.0]), b=returned([1.625, 2.0])))


def test_of_two_that_are_apart_pairwise_blames_the_wrong_one() -> None:
    assert failures(pairwise.check, evidence(a=RIGHT, b=WRONG_OUTPUT)) == [("b", "output", "outside the bound")]
    assert failures(pairwise.check, evidence(a=WRONG_OUTPUT, b=RIGHT)) == [("a", "output", "outside the bound")]


def test_pairwise_sees_nan_shape_dtype_and_gradients() -> None:
    assert failures(pairwise.check, evidence(a=RIGHT, b=returned([1.0, NAN]))) == [("b", "output", "NaN")]
    half = Returned({"output": tensor([1.0, 2.0], "float16")})
    assert failures(pairwise.check, evidence(a=RIGHT, b=returned([1.0, 2.0, 3.0]))) == [("b", "output", "wrong shape")]
    assert failures(pairwise.check, evidence(a=RIGHT, b=half)) == [("b", "output", "wrong dtype")]
    assert failures(pairwise.check, evidence(gradient=True, a=RIGHT, b=WRONG_GRADIENT)) == [("b", "query", "outside the bound")]


def test_pairwise_agrees_on_equal_nan_and_infinity() -> None:
    assert failures(pairwise.check, evidence(a=returned([NAN, INF]), b=returned([NAN, INF]))) == []


def test_pairwise_lets_nan_be_where_it_may_be() -> None:
    given = evidence(a=returned([NAN, 2.0]), b=returned([1.0, 2.0]), c=returned([NAN, 2.0]))
    loose = replace(given, verdict=Verdict({"output": gold([1.0, 2.0], loose=[True, False])}, {}, False))
    assert failures(pairwise.check, given)
    assert failures(pairwise.check, loose) == []


def test_where_the_oracles_own_nan_may_be_a_number_two_numbers_are_not_compared() -> None:
    """Two blockwise forms never read a poisoned key that nobody sees; the oracle does, and has no bound there."""
    given = evidence(a=returned([1.0, 2.0]), b=returned([1.0625, 2.0]), c=returned([NAN, 2.0]))
    loose = replace(given, verdict=Verdict({"output": gold([NAN, 2.0], [NAN, 0.5], loose=[True, False])}, {}, False))
    assert failures(pairwise.check, loose) == []


def test_pairwise_of_one_subject_has_nothing_to_compare() -> None:
    assert failures(pairwise.check, evidence(a=WRONG_OUTPUT)) == []


@pytest.mark.parametrize(
    ("answer", "clause", "seen"),
    [
        (Raised(("KeyError",), "'x'"), "forward", "raised KeyError"),
        (Raised(("KeyError",), "'x'", "gradients"), "gradients", "raised KeyError"),
        (Lost("crashed", ""), "lane", "crashed"),
        (Lost("hung", "no sign of life for 2 s"), "lane", "hung"),
    ],
)
def test_answers_fails_on_whatever_does_not_return(answer: Answer, clause: str, seen: str) -> None:
    assert failures(answers.check, evidence(a=answer, b=RIGHT)) == [("a", clause, seen)]


def test_answers_passes_over_calls_that_were_not_made() -> None:
    assert failures(answers.check, evidence(a=Lost("not run", "given up"))) == []


# -- preconditions ------------------------------------------------------------------------------------------------

SUBJECT = Subject("numpy:x", SPEC.name, "numpy", "x", "f")


@pytest.mark.parametrize("name", builtin())
def test_every_declared_precondition_is_broken_by_some_call(name: str) -> None:
    found, unbroken = preconditions.violations(builtin()[name], "float32")
    assert unbroken == []
    assert {each.clause for each in found} >= {each.clause for each in builtin()[name].preconditions}


def test_layouts_and_dtypes_imply_preconditions() -> None:
    found, _ = preconditions.violations(SPEC, "float32")
    clauses = {each.clause for each in found}
    assert {"integers", "dtype of mask", "dtype of query_seq_lengths", "rank of query", "rank of bias"} <= clauses
    assert {"S of value", "S of key", "H of query", "B of key", "T of mask"} <= clauses


@pytest.mark.parametrize("name", builtin())
def test_a_clash_is_one_that_the_spec_itself_sees(name: str) -> None:
    for violation in preconditions.violations(builtin()[name], "float32")[0]:
        if " of " in violation.clause and not violation.clause.startswith(("rank", "dtype")):
            with pytest.raises(ShapeMismatch):
                facts(builtin()[name], violation.configuration)


VIOLATION = preconditions.Violation("heads-divide", CASE.configuration, ("ValueError",))


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (RIGHT, "accepted"),
        (Raised(("IndexError", "LookupError"), "oops"), "raised IndexError"),
        (Lost("crashed", ""), "crashed"),
    ],
)
def test_preconditions_fails_on_anything_but_the_declared_error(answer: Answer, seen: str) -> None:
    (failure,) = preconditions.check(SPEC, SUBJECT, VIOLATION, answer, CASE)
    assert failure.seen == seen
    assert failure.message.startswith("a call that breaks `heads-divide` must raise ValueError; it ")


@pytest.mark.parametrize("answer", [Raised(("MyError", "ValueError"), ""), Lost("not run", "")])
def test_preconditions_accepts_the_declared_error_and_its_subclasses(answer: Answer) -> None:
    assert list(preconditions.check(SPEC, SUBJECT, VIOLATION, answer, CASE)) == []


def test_a_precondition_that_nothing_breaks_is_reported() -> None:
    (first, *rest) = SPEC.preconditions
    toothless = replace(first, clause="toothless", violate=({"no_such_argument": 1},))
    _, unbroken = preconditions.violations(replace(SPEC, preconditions=(toothless, *rest)), "float32")
    assert unbroken == ["toothless"]


# -- coverage -----------------------------------------------------------------------------------------------------


def tallied(configurations: tuple[Configuration, ...]) -> Tally:
    counts = Tally()
    for configuration in configurations:
        for argument, value in values_taken(SPEC, configuration):
            counts.taken[SPEC.name][argument][value] += 1
    return counts


def test_an_argument_that_never_varied_is_an_error() -> None:
    errors = list(coverage.check(SPEC, tallied(pool(SPEC, "float32", 1))))
    assert (
        f"{SPEC.name}: `is_causal` was {dict(CASE.configuration.values).get('is_causal', False)!r} in every case of the run"
        in errors
    )
    assert not any("`implementation`" in error for error in errors)  # declared inert


def test_the_pool_varies_every_argument() -> None:
    assert list(coverage.check(SPEC, tallied(pool(SPEC, "float32", 24)))) == []


@pytest.mark.parametrize(
    ("share", "error"),
    [
        (Share(cases=100, ill_conditioned=12), "12 of 100 cases are ill-conditioned, more than 5%"),
        (Share(cases=2000, ill_conditioned=130), "130 of 2000 cases are ill-conditioned, more than 5%"),
        (Share(cases=10, invalid=1), "1 of 10 cases are invalid calls, which the generator must not draw"),
    ],
)
def test_cases_that_judge_nobody_are_bounded(share: Share, error: str) -> None:
    counts = Tally()
    counts.shares[SPEC.name, "float32"] = share
    assert list(coverage.check(SPEC, counts)) == [f"{SPEC.name} in float32: {error}"]


def test_vacuous_cases_are_bounded_over_all_dtypes() -> None:
    counts = Tally()
    for dtype in ("float32", "float64"):
        counts.shares[SPEC.name, dtype] = Share(cases=350, sampled=50, vacuous=6)
    assert list(coverage.check(SPEC, counts)) == [f"{SPEC.name}: 12 of 100 cases are vacuous, more than 5%"]


@pytest.mark.parametrize(
    "share",
    [
        Share(cases=700, ill_conditioned=35, sampled=100, vacuous=5),
        Share(cases=72, ill_conditioned=5),  # of a share of 3 % one run in fifteen has as many
        Share(cases=10, ill_conditioned=9),
        Share(cases=70, sampled=10, vacuous=9),
    ],
)
def test_a_small_share_is_no_error(share: Share) -> None:
    counts = Tally()
    counts.shares[SPEC.name, "float32"] = share
    assert list(coverage.check(SPEC, counts)) == []


def test_one_case_in_seven_is_looked_at_for_being_vacuous(monkeypatch: pytest.MonkeyPatch) -> None:
    share, looked_at = Share(), []
    monkeypatch.setattr(tally, "is_vacuous", lambda spec, case, arrays: looked_at.append(case) or True)
    for number in range(70):
        share.add(replace(evidence(ill_conditioned=number < 14), case=Case(CASE.configuration, number)))
    assert [case.seed for case in looked_at] == [20, 27, 34, 41, 48, 55, 62, 69]
    assert share == Share(cases=70, ill_conditioned=14, sampled=8, vacuous=8)


def test_an_argument_with_one_possible_value_need_not_vary() -> None:
    assert not can_vary(SDPA.argument("dropout_p"))
    assert can_vary(SDPA.argument("scale"))


# -- choosing -----------------------------------------------------------------------------------------------------


def test_checks_are_chosen_by_name() -> None:
    assert checks.select() == checks.NAMES
    assert checks.select(["oracle", "signature"]) == ("oracle", "signature")
    assert checks.select(skip=["pairwise"]) == tuple(name for name in checks.NAMES if name != "pairwise")
    with pytest.raises(ValueError, match=r"Expected a check of answers, oracle, .*, got 'orakel'"):
        checks.select(["orakel"])
