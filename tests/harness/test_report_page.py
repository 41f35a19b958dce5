"""`attnspec report`: the page of hand-made runs, what it says of nothing, and what it says of files that hold no run."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.cli import main
from attnspec.harness.events import Finished, Started
from attnspec.harness.findings import Finding, Shown
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.mask_pictures import Picture
from attnspec.harness.plan import Item
from attnspec.harness.reports.as_json import JsonReport
from attnspec.harness.reports.as_json_lines import JsonLinesReport
from attnspec.harness.reports.page import page
from attnspec.harness.reports.page.states import State, places
from attnspec.harness.reports.saved_run import SavedRun, from_json
from attnspec.harness.subjects import Subject
from attnspec.harness.tally import EDGES, Cell, Ratios, Tally
from attnspec.spec.loader import builtin
from in_browser import in_browser, needs_chromium

SPEC = builtin()["causal_gqa"]
API = SPEC.name
LANES = ("numpy", "torch", "jax", "tensorflow", "r")
SUBJECTS = tuple(Subject(f"{lane}:{API}", API, lane, "m", "f") for lane in LANES)
NASTY = "<script>alert(1)</script> & `s <= t`"
FAILURE = Failure("numpy:causal_gqa", "oracle", "output", "NaN", NASTY, API, None, Worst((0,), float("nan"), 0.25, 1e-3, 2.0))
PICTURES = (Picture("declared", "", "T=1, S=2", ("#.",)), Picture("here", NASTY, "T=1, S=2", ("##",)))
FINDING = Finding(
    FAILURE, "is_causal=True", 3, 96, ("float32",), {"numpy": "2"}, (Shown("numpy:causal_gqa", "nan"),), "attnspec replay t",
    causes=(NASTY,), explained=2, asked=3, script="import numpy\nprint('got')", pictures=PICTURES,
)  # fmt: skip
DEVIATION = Deviation(
    "torch:causal_gqa", ">=1", "oracle", "output", "NaN", "It does.", link="https://example.org/1", when="S > 3"
)
OPEN = {lane: {lane: "1.0"} for lane in LANES if lane != "r"}
STARTED = Started(
    7, "quick", ("oracle",), OPEN, ("r: no Rscript",), (Item(SPEC, API, SUBJECTS),), {"r": "no Rscript"}, "attnspec check"
)


def counted(cases: int, ratio: float) -> Cell:
    counts = [0] * (len(EDGES) + 1)
    counts[3] = cases
    return Cell(cases, 0, 0, Ratios(ratio, "query 1x2, seed 4", counts))


def tally() -> Tally:
    counts = Tally()
    for lane in ("numpy", "torch", "jax"):
        counts.cells[API, f"{lane}:{API}", "float32"] = counted(9, 0.25)
    counts.cells[API, f"tensorflow:{API}", "float32"] = Cell(cases=9, unanswered=9)  # nobody was judged
    counts.taken[API]["scale"]["None"] += 40
    counts.arguments[API, f"numpy:{API}"] = {"scale": "ignored"}
    return counts


def saved(finished: Finished, report: Callable[[io.StringIO], Any], started: Started = STARTED) -> str:
    out = io.StringIO()
    subscriber = report(out)
    for event in (started, finished):
        subscriber(event)
    return out.getvalue()


def full(out: io.StringIO) -> JsonReport:
    return JsonReport(out, full=True)


WHOLE = Finished(1.5, tally(), (FINDING,), {DEVIATION: 4}, (), ("a note",), STARTED.not_covered)
CLEAN = Finished(1.5, tally(), (), {}, (), (), STARTED.not_covered)


def run_of(finished: Finished, started: Started = STARTED) -> SavedRun:
    return from_json(saved(finished, full, started), "run.json")


def test_each_state_and_nothing_unjudged_is_green() -> None:
    states = {lane: place.state for (_, lane), place in places(run_of(WHOLE)).items()}
    assert states == {
        "numpy": State.FINDING,
        "torch": State.KNOWN,
        "jax": State.PASSED,
        "tensorflow": State.NOT_COVERED,
        "r": State.NOT_COVERED,
    }
    assert {place.why for place in places(run_of(WHOLE)).values()} == {"", "no case was judged", "the lane is missing"}


def test_a_page_says_each_state_in_words_and_escapes_what_it_is_given() -> None:
    text = page(run_of(WHOLE))
    for said in (
        "1 finding, 1 not covered",
        "known deviation",
        "the lane is missing",
        "equal on 2 of 3 failing cases",
        "It does.",
    ):
        assert said in text
    assert text.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; <code>s &lt;= t</code>" in text
    assert "print(&#x27;got&#x27;)" in text
    assert "attnspec check" in text
    assert not re.search(r"""(src|srcset|action)=|url\(|@import|<link|<iframe""", text)
    assert re.findall(r'href="([^#"][^"]*)"', text) == ["https://example.org/1"]  # a link to follow, which loads nothing


def test_every_link_within_the_page_has_its_place() -> None:
    text = page(run_of(WHOLE))
    names = re.findall(r'id="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(names)


def test_a_run_without_findings_says_so() -> None:
    text = page(run_of(CLEAN))
    assert "passed, 1 not covered" in text
    assert "No findings." in text


def test_a_run_of_nothing_is_no_pass() -> None:
    nothing = Finished(0.0, Tally(), (), {}, ("nothing was checked",))
    run = run_of(nothing, replace(STARTED, versions={}, missing=dict.fromkeys(LANES, "gone")))
    assert {place.state for place in places(run).values()} == {State.NOT_COVERED}
    text = page(run)
    assert "1 error of the run" in text
    assert "nothing was checked" in text
    assert "No case was judged." in text


def test_masks_of_an_api_are_drawn() -> None:
    (picture,) = run_of(CLEAN).masks[API]
    assert (picture.title, picture.rule) == ("mask.causal", "`s <= t`")
    assert picture.lines[0].rstrip(".") == "#"


def test_lines_of_json_hold_the_same_run() -> None:
    assert page(from_json(saved(WHOLE, JsonLinesReport), "run.jsonl")) == page(run_of(WHOLE))


@needs_chromium
def test_a_link_from_outside_opens_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(run_of(WHOLE)), encoding="utf-8")
    opened = "return [...document.querySelectorAll('details[open]')].map((each) => each.id)"
    assert in_browser(file, opened, tmp_path, "#api-1-torch") == ["finding-1", "api-1-torch"]


# -- files that hold no run ---------------------------------------------------------------------------------------


def changed(**keys: object) -> str:
    return json.dumps(json.loads(saved(WHOLE, full)) | keys)


WRONG = {
    "no JSON": ("<html>", "expected a run as JSON, got '<html>'"),
    "empty": ("", "ends in the middle"),
    "cut off": (saved(WHOLE, full)[:900], "ends in the middle"),
    "no object": ("[1, 2]", "expected a run as a JSON object, got [1, 2]"),
    "another's": ('{"name": "x"}', "expected a run of attnspec; write it with `attnspec check --format full`"),
    "another schema": (changed(schema=2), "expected schema 1, got 2"),
    "plain json": (saved(WHOLE, JsonReport), "got `--format json`; write it with `attnspec check --format full`"),
    "interrupted lines": (saved(WHOLE, JsonLinesReport).splitlines()[0], "the run was interrupted"),
    "a wrong kind": (changed(seed="7"), 'seed: expected a whole number, got "7"'),
    "deep inside": (changed(versions={"numpy": {"numpy": 3}}), "versions.numpy.numpy: expected a text, got 3"),
    "a missing key": (changed(evidence=[{"explained": 1}]), "evidence[0].asked: is missing"),
    "too few": (changed(evidence=[]), "evidence: expected 1, one for each finding, got 0"),
    "other edges": (changed(ratio_edges=[1.0]), "matrix[0].ratios: expected 2 counts"),
    "edges of nothing": (changed(ratio_edges=[0]), "ratio_edges: expected positive numbers, the smallest first"),
    "lists within lists": ("[" * 100_000, "lists within lists"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_run_is_a_clear_error(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "run.json", tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    assert main(["report", str(file), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{file}: ")
    assert said in told
    assert list(tmp_path.iterdir()) == [file]


def test_files_that_cannot_be_read_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    assert main(["report", str(file)]) == 2
    assert "No such file" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe\x00")
    assert main(["report", str(file)]) == 2
    assert "got no text" in capsys.readouterr().err
    file.write_text(saved(CLEAN, full), encoding="utf-8")
    for out, said in (
        (tmp_path, "Is a directory"),
        (tmp_path / "no" / "x.html", "No such file"),
        (file / "x.html", "Not a directory"),
    ):
        assert main(["report", str(file), "--out", str(out)]) == 2
        assert capsys.readouterr().err == f"{out}: {said}{' or directory' if 'No such' in said else ''}\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_with_a_page_that_cannot_be_written_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", API, "--targets", "numpy", "--report", str(tmp_path / "no" / "x.html")]) == 2
    assert capsys.readouterr() == ("", f"{tmp_path / 'no' / 'x.html'}: No such file or directory\n")


def test_a_run_writes_its_page_and_the_same_page_comes_from_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, saved_run, later = tmp_path / "direct.html", tmp_path / "run.json", tmp_path / "later.html"
    few = ["--targets", "numpy", "--dtypes", "float32", "--cases", "4", "--gradient-cases", "2", "--seed", "1"]
    command = ["check", API, *few, "--checks", "oracle,gradients", "--format", "full", "--report", str(direct)]
    assert main(command) == 0
    saved_run.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["report", str(saved_run), "--out", str(later)]) == 0
    assert capsys.readouterr().out == f"{later}\n"
    assert direct.read_text(encoding="utf-8") == later.read_text(encoding="utf-8")
    data = json.loads(saved_run.read_text(encoding="utf-8"))
    assert data["command"] == " ".join(["attnspec", *command])
    assert [sum(cell["ratios"]) for cell in data["matrix"]] == [6, 6]  # direct and blockwise
    assert [sum(cell["gradient_ratios"]) for cell in data["matrix"]] == [2, 2]
    assert data["matrix"][0]["worst_case"] in later.read_text(encoding="utf-8")
