"""Reporters: the terminal's text and the JSON object, from hand-made events."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.course import Course
from attnspec.harness.events import Finished, Found, Progress, Started
from attnspec.harness.findings import Finding, Shown
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.plan import Item
from attnspec.harness.reports import as_json
from attnspec.harness.reports.as_json import JsonReport
from attnspec.harness.reports.as_json_lines import JsonLinesReport
from attnspec.harness.reports.as_junit import JunitReport
from attnspec.harness.reports.terminal import TerminalReport, progress
from attnspec.harness.subjects import Subject
from attnspec.harness.tally import Cell, Ratios, Share, Tally
from attnspec.spec.loader import builtin

WORST = Worst((0,), float("nan"), 0.25, 1e-3, float("inf"))
FAILURE = Failure("numpy:x", "oracle", "output", "NaN", "`output` is NaN", "x", None, WORST)
FINDING = Finding(
    FAILURE, "is_causal=True", 3, 96, ("float32",), {"numpy": "2"}, (Shown("numpy:x", "nan"),), "attnspec replay t"
)
DEVIATION = Deviation("native:x", ">=1", "oracle", "output", "NaN", "It does.")
STARTED = Started(7, "quick", ("oracle",), {"numpy": {"numpy": "2.4"}}, ("torch: not installed",))


def tally() -> Tally:
    counts = Tally()
    counts.cells["x", "numpy:x", "float32"] = Cell(90, 10, 0, Ratios(float("inf"), "query float32 1, seed 4"), Ratios(0.125))
    counts.cells["x", "numpy:x", "float64"] = Cell(cases=5, outputs=Ratios(0.5))
    counts.shares["x", "float32"] = Share(cases=100, ill_conditioned=2, sampled=10, vacuous=1)
    counts.taken["x"]["is_causal"]["True"] += 40
    counts.taken["x"]["is_causal"]["False"] += 60
    counts.arguments["x", "numpy:x"] = {"bias": "ignored"}
    return counts


def finished(*findings: Finding, errors: tuple[str, ...] = ()) -> Finished:
    return Finished(1.25, tally(), findings, {DEVIATION: 4}, errors, ("a note",), ("torch: not installed",))


def printed(*events: Started | Progress | Found | Finished) -> list[str]:
    out = io.StringIO()
    report = TerminalReport(out)
    for event in events:
        report(event)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_plain_lines_hold_the_whole_run() -> None:
    progress = Progress("x", "float32", False, 32, 96), Progress("x", "float32", False, 96, 96)
    lines = printed(STARTED, *progress, Found(FINDING), finished(FINDING))
    assert lines[0] == "attnspec check, profile quick, seed 7: numpy 2.4"
    assert lines[1] == "not covered: torch: not installed"
    assert lines[2] == "x  float32  forward  96 of 96"
    assert "numpy:x: oracle: `output` is NaN" in lines
    assert "  replay   attnspec replay t" in lines
    assert "numpy:x  95 + 10  -    -     inf / 0.12  0.5 / -" in lines
    assert "x     is_causal  False (60), True (40)" in lines
    assert "100 cases: ill-conditioned 2 (2.0%), invalid 0 (0.0%), of 10 looked at vacuous 1 (10.0%)" in lines
    assert "known deviation, seen 4 times: native:x >=1: oracle, `output`: NaN. It does." in lines
    assert lines[-1] == "1 finding(s), 0 error(s) of the run in 1.2 s"
    assert not any("\x1b" in line for line in lines)


def test_errors_of_the_run_are_no_pass() -> None:
    lines = printed(STARTED, finished(errors=("`scale` was None in every case of the run",)))
    assert "error of the run: `scale` was None in every case of the run" in lines
    assert lines[-1] == "0 finding(s), 1 error(s) of the run in 1.2 s"


def test_a_clean_run_passes() -> None:
    assert printed(STARTED, finished())[-1] == "passed in 1.2 s"


def test_a_run_of_nothing_says_so() -> None:
    nothing = Finished(0.0, Tally(), (), {}, ())
    assert "0 cases" in printed(STARTED, nothing)


def test_a_line_for_each_lane_at_the_end() -> None:
    item = Item(builtin()["causal_gqa"], "x", (Subject("numpy:x", "x", "numpy", "m", "f"),))
    event = finished(replace(FINDING, failure=replace(FAILURE, api="causal_gqa")))
    event.tally.cells["causal_gqa", "numpy:x", "float32"] = Cell(90, 10, 0, Ratios(0.5), Ratios(0.125))
    lines = printed(replace(STARTED, items=(item,)), Progress("x", "float32", True, 96, 96, {"numpy": 412.3}), event)
    assert "numpy: 90 + 10 cases at 412 a second, worst error/bound 0.5 / 0.12, findings 1" in lines


PACE = {"numpy": 812.4, "keras-torch": 96.0}


def test_progress_says_how_the_run_stands_and_how_fast_each_lane_is() -> None:
    assert list(progress(Progress("x", "float32", True, 32, 96, PACE, 0.43, 2, 130.4))) == [
        "x  float32  gradients  32 of 96",
        "findings 2  worst error/bound 0.43  about 0:02:10 left",
        "  numpy            812 cases/s",
        "  keras-torch       96 cases/s",
    ]
    assert list(progress(Progress("x", "float32", True, 0, 96)))[1] == "findings 0  worst error/bound 0"


def test_what_is_left_is_guessed_from_what_is_done() -> None:
    clock = iter([10.0, 40.0])
    course = Course(400, now=lambda: next(clock))
    assert course.left == float("inf")
    course.add(100)
    assert course.left == 90.0


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_shows_progress_and_colour_unless_it_must_not(colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    lines = printed(STARTED, Progress("x", "float32", True, 32, 96, PACE), finished(FINDING))
    assert any("812 cases/s" in line for line in lines)
    assert any("\x1b" in line for line in lines)
    assert any(re.search(r"\x1b\[[0-9;]*3[0-7]", line) for line in lines) == colour


def json_of(*events: Started | Found | Finished, full: bool = True) -> Any:
    out = io.StringIO()
    report = JsonReport(out, full=full)
    for event in events:
        report(event)
    return json.loads(out.getvalue())


def test_json_is_one_object_of_schema_1() -> None:
    data = json_of(STARTED, Found(FINDING), finished(FINDING))
    assert data["schema"] == 1
    assert data["passed"] is False
    assert (data["seed"], data["profile"], data["cases"]) == (7, "quick", 100)
    assert data["coverage"] == {"x": {"is_causal": {"True": 40, "False": 60}}}
    assert data["matrix"][0] == {
        "api": "x",
        "subject": "numpy:x",
        "dtype": "float32",
        "cases": 90,
        "gradient_cases": 10,
        "unanswered": 0,
        "worst_error_over_bound": "inf",
        "worst_gradient_error_over_bound": 0.125,
        "worst_case": "query float32 1, seed 4",
        "worst_gradient_case": "",
        "ratios": [0] * 15,
        "gradient_ratios": [0] * 15,
    }
    assert data["shares"] == [
        {"api": "x", "dtype": "float32", "cases": 100, "ill_conditioned": 2, "invalid": 0, "sampled": 10, "vacuous": 1}
    ]
    (finding,) = data["findings"]
    assert (finding["cause"], finding["clause"], finding["answers"]) == (FINDING.title, "output", {"numpy:x": "nan"})
    assert finding["worst"] == {"index": [0], "got": "nan", "want": 0.25, "bound": 0.001, "error_over_bound": "inf"}
    assert data["not_covered"] == ["torch: not installed"]
    assert data["known_deviations"][0]["seen"] == 4


def test_json_of_a_clean_run() -> None:
    data = json_of(STARTED, finished())
    assert data["passed"] is True
    assert data["findings"] == []


def test_json_has_the_documented_keys_and_no_others() -> None:
    """README.md beside the reports is the documentation; its example is an object of the schema."""
    text = (Path(as_json.__file__).with_name("README.md")).read_text(encoding="utf-8")
    documented = json.loads(text.split("```json")[1].split("```")[0])
    data = json_of(STARTED, Found(FINDING), finished(FINDING), full=False)
    assert list(data) == list(documented)
    assert list(data["findings"][0]) == list(documented["findings"][0])
    assert list(data["findings"][0]["worst"]) == list(documented["findings"][0]["worst"])
    assert list(data["subjects"][0]) == list(documented["subjects"][0])


def test_json_names_the_one_subject_or_lists_them() -> None:
    one = json_of(STARTED, finished(), full=False)
    assert (one["subject"], one["api"], one["arguments"]) == ("numpy:x", "x", {"bias": "ignored"})
    event = finished()
    event.tally.cells["x", "torch:x", "float32"] = Cell(cases=1)
    two = json_of(STARTED, event, full=False)
    assert (two["subject"], two["api"], two["arguments"]) == (None, None, {})
    assert [each["subject"] for each in two["subjects"]] == ["numpy:x", "torch:x"]


def test_json_lines_come_as_the_run_goes_on() -> None:
    out = io.StringIO()
    report = JsonLinesReport(out)
    for event in (
        STARTED,
        Progress("x", "float32", False, 32, 96, {"numpy": 400.0}, 0.5, 2),
        Found(FINDING),
        finished(FINDING),
    ):
        report(event)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["started", "progress", "found", "finished"]
    about = {"event": "progress", "api": "x", "dtype": "float32", "gradient": False, "done": 32, "total": 96}
    assert lines[1] == {**about, "findings": 2, "pace": {"numpy": 400.0}, "worst_error_over_bound": 0.5, "seconds_left": "inf"}
    assert lines[2]["cause"] == FINDING.title
    assert lines[3]["matrix"][0]["cases"] == 90


def test_junit_has_a_test_per_subject_and_check() -> None:
    out = io.StringIO()
    report = JunitReport(out)
    nasty = replace(FINDING, failure=replace(FAILURE, message="`output` is <NaN> & \x00"))
    for event in (replace(STARTED, checks=("oracle", "gradients", "coverage")), finished(nasty, errors=("nothing varied",))):
        report(event)
    root = ElementTree.fromstring(out.getvalue())
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    tests = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}
    assert set(tests) == {("x.numpy:x", "oracle"), ("x.numpy:x", "gradients"), ("attnspec", "run"), ("attnspec", "torch")}
    failure = tests["x.numpy:x", "oracle"].find("failure")
    assert failure is not None
    assert failure.get("message") == "numpy:x: oracle: `output` is <NaN> & ?"
    assert "attnspec replay t" in (failure.text or "")
    assert len(tests["x.numpy:x", "gradients"]) == 0
