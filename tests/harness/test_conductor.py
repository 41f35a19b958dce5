"""A run as a whole: what it tells, that a seed repeats it, that faults become small findings, and deviations are strict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from attnspec.harness.cases import Case, pool
from attnspec.harness.checks import NAMES
from attnspec.harness.conductor import Conductor, _lanes
from attnspec.harness.drive import BATCH, derive, drive
from attnspec.harness.events import Event, Finished, Found, Progress, Started
from attnspec.harness.findings import size_of
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.plan import PROFILES, Item, Plan
from attnspec.harness.subjects import Subject, natives, user
from attnspec.spec.loader import builtin
from planted_bugs.faults import FAULTS, HERE

SPEC = builtin()["jax.nn.dot_product_attention"]
RIGHT = f"{HERE / 'numpy_attention.py'}:dot_product_attention"
PROFILE = replace(PROFILES["quick"], cases=64, gradient_cases=32, shrink_seconds=20.0)


def subject(text: str, name: str) -> Subject:
    return replace(user(text, SPEC, "numpy"), name=name)


def plan(*subjects: Subject, **changes: object) -> Plan:
    item = Item(SPEC, SPEC.name, subjects)
    plan = Plan((item,), PROFILE, seed=3, lanes=("numpy",), dtypes=("float32",))
    return replace(plan, **changes)  # type: ignore[arg-type]


def run(chosen: Plan) -> tuple[Finished, list[Event]]:
    events: list[Event] = []
    return Conductor(chosen, [events.append]).run(), events


def faulty(name: str, folder: Path) -> Subject:
    fault = next(fault for fault in FAULTS if fault.name == name)
    return subject(f"{fault.write(folder)}:{fault.function}", "faulty")


# -- lanes ----------------------------------------------------------------------------------------------------------


def test_a_short_run_compiles_in_haste() -> None:
    built_in = natives(SPEC)
    assert all(lane.hasty for lane in _lanes(plan(*built_in)))
    assert not any(lane.hasty for lane in _lanes(plan(*built_in, profile=PROFILES["ci"])))
    assert all(lane.hasty for lane in _lanes(plan(*built_in, subject(RIGHT, "mine"))))


# -- drawing ------------------------------------------------------------------------------------------------------


def drawn(count: int, seed: int, size: int = 10) -> list[Case]:
    cases: list[Case] = []
    drive(pool(SPEC, "float32", size), count, seed, cases.extend)
    return cases


@pytest.mark.parametrize("count", [0, 1, 10, 11, 100])
def test_as_many_cases_as_asked_for(count: int) -> None:
    assert len(drawn(count, 1)) == count


def test_a_seed_draws_the_same_cases_again_and_another_seed_others() -> None:
    assert drawn(100, 1) == drawn(100, 1)
    assert drawn(100, 1) != drawn(100, 2)


def test_the_whole_pool_comes_first_once() -> None:
    assert tuple(case.configuration for case in drawn(100, 1)[:10]) == pool(SPEC, "float32", 10)


def test_cases_are_not_repeated_within_a_batch() -> None:
    cases = drawn(10 + 4 * BATCH, 1)
    assert len(set(cases)) > 3 * BATCH


def test_derived_seeds_differ() -> None:
    assert len({derive(1, "a"), derive(1, "b"), derive(2, "a"), derive(1, "a", 0)}) == 4


# -- a run --------------------------------------------------------------------------------------------------------


def test_a_right_implementation_passes_every_check() -> None:
    finished, events = run(plan(subject(RIGHT, "right")))
    assert finished.passed, (finished.findings, finished.errors)
    assert isinstance(events[0], Started)
    assert events[-1] is finished
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress if event.done == event.total] == [64, 32]
    cell = finished.tally.cells[SPEC.name, "right", "float32"]
    assert (cell.cases, cell.gradient_cases, cell.unanswered) == (64, 32, 0)
    assert 0 < cell.outputs.worst <= 1
    assert 0 < cell.gradients.worst <= 1


@pytest.mark.parametrize("slow", [("numpy",), ("jax",)])
def test_a_long_run_has_no_cases_that_no_lane_takes(slow: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that gets half of the configurations is asked about as many cases as any other."""
    monkeypatch.setattr("attnspec.harness.conductor.COMPILED", dict.fromkeys(slow, 2))
    profile = replace(PROFILES["full"], pool=6, compiled_pool=6, compiled_gradient_pool=6, cases=12, gradient_cases=8)
    finished, _ = run(plan(subject(RIGHT, "right"), profile=profile, checks=("oracle", "gradients")))
    cell = finished.tally.cells[SPEC.name, "right", "float32"]
    assert (cell.cases, cell.gradient_cases) == (12, 8)


def test_a_seed_repeats_the_run(tmp_path: Path) -> None:
    wrong = faulty("causal-aligned-bottom-right", tmp_path)
    first, _ = run(plan(wrong))
    second, _ = run(plan(wrong))
    assert repr(first.findings) == repr(second.findings)  # in which NaN is NaN
    assert first.tally == second.tally


def test_one_fault_is_one_finding_per_check_and_tensor_with_everybodys_answer(tmp_path: Path) -> None:
    finished, events = run(plan(faulty("causal-aligned-bottom-right", tmp_path), subject(RIGHT, "right")))
    keys = [finding.failure.key for finding in finished.findings]
    assert len(keys) == len(set(keys))
    assert ("faulty", "oracle", "output") in keys
    assert {key[0] for key in keys} == {"faulty"}
    assert [event.finding for event in events if isinstance(event, Found)] == list(finished.findings)
    finding = next(f for f in finished.findings if f.failure.check == "oracle" and f.failure.clause == "output")
    assert [shown.subject for shown in finding.answers] == ["faulty", "right"]
    assert 1 < finding.failing < finding.cases == PROFILE.cases + PROFILE.gradient_cases  # it shows in both
    assert "is_causal=True" in finding.case


def test_findings_are_shrunk(tmp_path: Path) -> None:
    finished, _ = run(plan(faulty("causal-aligned-bottom-right", tmp_path), checks=("oracle",)))
    (finding,) = (f for f in finished.findings if f.failure.clause == "output")
    assert finding.failure.case is not None
    configuration = finding.failure.case.configuration
    assert size_of(finding.failure.case)[0] <= 24  # q, k and v together
    assert {"T", "S"} <= {name for name, _ in dict(configuration.sizes).items()}


def test_pairwise_finds_what_the_oracle_is_not_asked_about(tmp_path: Path) -> None:
    subjects = faulty("causal-aligned-bottom-right", tmp_path), subject(RIGHT, "right"), subject(RIGHT, "right too")
    finished, _ = run(plan(*subjects, checks=("pairwise",)))
    assert {finding.failure.subject for finding in finished.findings} == {"faulty"}
    assert {finding.failure.check for finding in finished.findings} == {"pairwise"}


def test_a_check_that_is_off_finds_nothing(tmp_path: Path) -> None:
    finished, _ = run(plan(faulty("scale-missing-in-d-key", tmp_path), checks=tuple(n for n in NAMES if n != "gradients")))
    assert finished.findings == ()


def test_a_crash_is_a_finding_and_the_run_goes_on() -> None:
    awkward = Path(__file__).with_name("awkward_subjects.py")
    finished, _ = run(plan(subject(f"{awkward}:crash", "crash"), subject(RIGHT, "right"), checks=("answers", "oracle")))
    (finding,) = finished.findings
    assert finding.failure.key == ("crash", "answers", "lane")
    assert finished.tally.cells[SPEC.name, "right", "float32"].unanswered == 0


def test_a_finding_that_does_not_come_again_says_so(tmp_path: Path) -> None:
    """A subject that is wrong once: the finding stays, and is marked."""
    source = Path(RIGHT.rpartition(":")[0]).read_text(encoding="utf-8")
    (tmp_path / "once.py").write_text(
        source
        + "\n\nright, calls = dot_product_attention, []\n\n\n"
        + "def once(*args, **named):\n    calls.append(1)\n    result = right(*args, **named)\n"
        + "    if len(calls) != 5:\n        return result\n"
        + "    return (result[0] + 9, *result[1:]) if isinstance(result, tuple) else result + 9\n"
    )
    finished, _ = run(plan(subject(f"{tmp_path / 'once.py'}:once", "once"), checks=("oracle",)))
    (finding,) = finished.findings
    assert finding.failure.message.endswith("; it did not happen again")


# -- what is not covered ------------------------------------------------------------------------------------------


def test_a_missing_lane_is_not_covered_and_nothing_checked_is_no_pass() -> None:
    finished, events = run(plan(subject(RIGHT, "right"), interpreters={"numpy": "/nowhere/python"}))
    assert finished.not_covered[0] == "numpy: there is no interpreter /nowhere/python"
    assert "nothing was checked" in finished.errors
    assert not finished.passed
    assert isinstance(events[0], Started)


# -- known deviations ---------------------------------------------------------------------------------------------


def deviation(seen: str, when: str = "") -> Deviation:
    return Deviation("faulty", ">=1", "oracle", "output", seen, "It is known.", when=when)


def test_a_known_deviation_is_no_finding(tmp_path: Path) -> None:
    wrong = faulty("given-scale-ignored", tmp_path)
    known = deviation("outside the bound", "scale != H ** -0.5")
    finished, _ = run(plan(wrong, checks=("oracle",), deviations=(known,)))
    assert [f for f in finished.findings if f.failure.clause == "output"] == []
    assert finished.deviations[known] > 0


def test_one_that_no_longer_shows_fails_the_run(tmp_path: Path) -> None:
    right = subject(RIGHT, "faulty")
    finished, _ = run(plan(right, checks=("oracle",), deviations=(deviation("outside the bound"),)))
    assert not finished.passed
    assert finished.errors == (f"known deviation no longer shows: {deviation('outside the bound')}",)


def test_one_that_was_not_tried_is_reported(tmp_path: Path) -> None:
    right = subject(RIGHT, "faulty")
    finished, _ = run(plan(right, checks=("oracle",), deviations=(deviation("NaN", "S == 1000"),)))
    assert finished.passed
    assert finished.notes == (f"known deviation was not tried: {deviation('NaN', 'S == 1000')}",)
