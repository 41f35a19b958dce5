"""R's lane: arrays arrive as they were, a condition is an answer, and a crash or a hang costs its own call."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import preconditions, signature
from attnspec.harness.cli import main
from attnspec.harness.conductor import Conductor
from attnspec.harness.lanes.in_r import RFunction
from attnspec.harness.lanes.lane import PATIENCE, Job, Lane
from attnspec.harness.lanes.messages import Answer, Lost, Raised, Returned
from attnspec.harness.lanes.process import LaneMissing
from attnspec.harness.plan import PROFILES, Item, Plan
from attnspec.harness.subjects import Subject, subjects_of, user
from attnspec.spec.loader import builtin
from in_r import needs_r

AWKWARD = Path(__file__).with_name("awkward_subjects.R")
SPEC = builtin()["jax.nn.dot_product_attention"]


def awkward(function: str) -> Subject:
    return user(f"{AWKWARD}:{function}", SPEC, "r")


def cases(count: int) -> tuple[Case, ...]:
    return tuple(Case(configuration, seed) for seed, configuration in enumerate(pool(SPEC, "float64", count)))


def answers(lane: Lane, function: str, count: int = 1) -> list[Answer]:
    return [answer for (answer,) in lane.run(Job(SPEC, (awkward(function),), cases(count)))]


def r_processes() -> set[int]:
    """R processes of this one's family that serve a lane, and those that nobody looks after any more."""
    mine = {os.getpid(), 1, *(each.pid for each in psutil.Process().children(recursive=True))}
    found = [each for each in psutil.process_iter(["cmdline", "ppid"]) if each.info["ppid"] in mine]
    return {each.pid for each in found if any("r_server.R" in part for part in each.info["cmdline"] or ())}


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with Lane("r", deadline=4.0) as opened:
        yield opened


@needs_r
def test_arrays_come_back_as_they_were(lane: Lane) -> None:
    """Poisoned ones too: NaN and infinities are bits like any other."""
    for case, answer in zip(cases(16), answers(lane, "value_itself", 16), strict=True):
        if isinstance(answer, Returned):  # otherwise two outputs were expected
            assert answer.outputs["output"].dtype == "float64"
            np.testing.assert_array_equal(answer.outputs["output"].array, arrays(case, SPEC)["value"])


@needs_r
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    arrays_of.arrays(
        st.sampled_from([np.float64, np.int32, np.bool_]), arrays_of.array_shapes(min_dims=1, max_dims=5, min_side=0)
    )
)
def test_any_array_travels_without_loss(array: np.ndarray) -> None:
    array = np.where(array == np.iinfo(np.int32).min, 0, array) if array.dtype == np.int32 else array  # R's NA
    back = RFunction(str(AWKWARD), "value_itself")(0.0, 0.0, np.asfortranarray(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@needs_r
def test_the_version_is_that_of_r(lane: Lane) -> None:
    assert list(lane.versions) == ["r"]
    assert lane.versions["r"].count(".") == 2


@needs_r
def test_a_condition_is_an_answer_by_its_class(lane: Lane) -> None:
    (answer,) = answers(lane, "refuse")
    assert isinstance(answer, Raised)
    assert answer.types[:2] == ("NotImplementedError", "RError")
    assert answer.message == "`anything` is not supported"


@needs_r
@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("two_values", "WrongCount: returned 2 value(s), expected 1: output"),
        ("text", "simpleError: returned a character, which is no array"),
        ("no_such_function", "simpleError: there is no function no_such_function in awkward_subjects.R"),
    ],
)
def test_what_is_no_result_is_an_answer(lane: Lane, function: str, said: str) -> None:
    assert str(answers(lane, function)[0]) == said


@needs_r
def test_logical_arrays_and_printing_do_not_disturb_the_lane(lane: Lane) -> None:
    assert isinstance(answers(lane, "noisy")[0], Returned)
    (answer,) = answers(lane, "whole")
    assert isinstance(answer, Returned)
    assert answer.outputs["output"].dtype == "bool"


@needs_r
def test_more_memory_than_allowed_is_a_condition(lane: Lane) -> None:
    (answer,) = answers(lane, "hungry")
    assert isinstance(answer, Raised)
    assert "cannot allocate" in answer.message


@needs_r
def test_there_are_no_gradients_and_the_answer_says_so(lane: Lane) -> None:
    ((answer,),) = lane.run(Job(SPEC, (awkward("value_itself"),), cases(1), gradient=True))
    assert isinstance(answer, Raised)
    assert answer.where == "gradients"
    assert answer.type == "NotImplementedError"


@needs_r
def test_the_signature_is_read_from_r(lane: Lane) -> None:
    found = lane.signature(awkward("plain"))
    assert isinstance(found, dict)
    assert [(name, default) for name, _, default in found["parameters"]] == [
        ("query", None), ("key", None), ("value", None), ("scale", "1.0"), ("sizes", "(3.0, 2.0)"), ("left", "4"),
        ("names", "('a', 'b')"), ("dots", None),
    ]  # fmt: skip


@needs_r
def test_a_generated_signature_is_the_documented_one_by_position(lane: Lane) -> None:
    (subject,) = subjects_of(SPEC, ("r",))
    found = lane.signature(subject)
    assert isinstance(found, dict)
    assert list(signature.check(SPEC, subject, found)) == []


@needs_r
def test_a_crash_and_a_hang_cost_their_own_calls() -> None:
    before = r_processes()
    with Lane("r", deadline=4.0) as lane:
        batch = cases(6)
        guilty = [dict(case.configuration.values).get("scale") is not None for case in batch]
        assert 0 < sum(guilty) <= PATIENCE
        lost = [isinstance(answer, Lost) for answer in answers(lane, "quit_for_scale", 6)]
        assert lost == guilty
        assert lane.restarts >= 2
        (hung,) = answers(lane, "hang")
        assert isinstance(hung, Lost)
        assert hung.how == "hung"
        assert isinstance(answers(lane, "value_itself")[0], Returned)
    until = time.monotonic() + 20.0  # one that is not killed ends where its input does, which may take a moment
    while not r_processes() <= before and time.monotonic() < until:
        time.sleep(0.1)
    assert r_processes() <= before


@needs_r
def test_bench_measures_it_forward_in_its_own_dtype(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnspec.harness.bench_command._one_core", lambda: None)
    assert main(["bench", "causal_gqa", "--targets", "r", "--cases", "24", "--dtype", "float64"]) == 0
    name, forward, gradients = capsys.readouterr().out.splitlines()[1].split()
    assert name == "r:causal_gqa"
    assert float(forward) > 0
    assert gradients == "-"
    assert main(["bench", "causal_gqa", "--targets", "r", "--cases", "24"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_without_r_the_lane_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LaneMissing, match="there is no Rscript on the path"):
        Lane("r").__enter__()


MISSING = "r: there is no Rscript on the path"


@pytest.mark.parametrize(("ci", "errors"), [("", ["nothing was checked"]), ("1", [MISSING, "nothing was checked"])])
def test_a_missing_r_is_not_covered_and_in_continuous_integration_an_error(
    ci: str, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    item = Item(SPEC, SPEC.name, subjects_of(SPEC, ("r",)))
    finished = Conductor(Plan((item,), PROFILES["quick"], seed=1, lanes=("r",), checks=("oracle",))).run()
    assert MISSING in finished.not_covered
    assert list(finished.errors) == errors


@pytest.mark.parametrize(
    ("name", "loose"),
    [
        ("torch.nn.functional.scaled_dot_product_attention", {"integers", "rank of attn_mask"}),
        (SPEC.name, {"integers", "dtype of query_seq_lengths", "dtype of key_value_seq_lengths"}),
    ],
)
def test_types_that_r_does_not_tell_apart_break_nothing_there(name: str, loose: set[str]) -> None:
    spec = builtin()[name]
    violations, _ = preconditions.violations(spec, "float32")
    assert {each.clause for each in violations if not preconditions.is_invalid(each, spec, "r")} == loose
    assert all(preconditions.is_invalid(each, spec, "numpy") for each in violations)


@needs_r
def test_an_r_function_of_a_users_own_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.R"
    file.write_text("mine <- function(query, key, value) value[, seq_len(dim(query)[2]), , , drop = FALSE]\n")
    item = Item(SPEC, SPEC.name, (user(f"{file}:mine", SPEC, "r"),))
    profile = replace(PROFILES["quick"], cases=24, shrink_seconds=2.0)
    plan = Plan((item,), profile, seed=1, lanes=("r",), dtypes=("float64",), checks=("oracle", "preconditions"))
    finished = Conductor(plan).run()
    wrong = {(finding.failure.check, finding.failure.seen) for finding in finished.findings}
    assert {check for check, _ in wrong} == {"oracle", "preconditions"}
    assert {seen for check, seen in wrong if check == "preconditions"} == {"accepted"}  # what R itself stops is refused


@needs_r
def test_an_r_function_is_a_python_callable_with_a_signature(tmp_path: Path) -> None:
    file = tmp_path / "f.R"
    file.write_text("f <- function(x, by = 2) x * by\n")
    function = RFunction(str(file), "f")
    assert str(inspect.signature(function)) == "(x, by=2.0)"
    np.testing.assert_array_equal(function(np.arange(3.0), by=3), [0.0, 3.0, 6.0])
