"""The page of a run with a planted fault, in a browser: what opens, what it shows, and that no request leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnspec.harness.cli import main
from in_browser import in_browser, needs_chromium
from planted_bugs.faults import FAULTS

pytestmark = needs_chromium
FAULT = next(fault for fault in FAULTS if fault.name == "causal-aligned-bottom-right")
VISIT = """
  const loaded = performance.getEntriesByType("resource").map((each) => each.name);
  const place = document.querySelector(".matrix a");
  const target = document.getElementById(place.hash.slice(1));
  const was_open = target.open;
  place.click();
  await new Promise((done) => setTimeout(done, 100));
  const lane = { was_open, is_open: target.open, text: target.innerText };

  const finding = document.getElementById("finding-1");
  const script = finding.querySelector(".script");
  const was_shown = script.innerText;
  script.querySelector("summary").click();
  const squares = [...finding.querySelectorAll("svg.mask .seen")].map((path) => path.getBBox().width);
  const found = { text: finding.innerText, was_shown, script: script.innerText, squares };

  document.getElementById("open-all").click();
  const all_open = [...document.querySelectorAll("details")].every((each) => each.open);
  const bars = document.querySelectorAll("svg.histogram rect").length;

  const refused = new Promise((done) => document.addEventListener("securitypolicyviolation", (each) => done(each.blockedURI)));
  document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/x.png" }));
  const image = await refused;
  const fetched = await fetch("http://127.0.0.1:9/x").then(() => "answered", () => "refused");
  return { loaded, lane, found, all_open, bars, image, fetched };
"""


def test_a_reader_opens_the_page_of_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, page = checked(tmp_path, monkeypatch)
    seen = in_browser(page, VISIT, tmp_path)
    a_place_of_the_matrix_opens_to_its_cases(seen["lane"])
    a_finding_shows_its_cause_its_case_its_masks_and_how_to_see_it_again(seen["found"], run["findings"][0], run["evidence"][0])
    assert seen["all_open"]
    assert seen["bars"] > 3
    assert seen["loaded"] == []  # no request leaves the page, and what tries to is refused by its own policy
    assert (seen["image"], seen["fetched"]) == ("http://127.0.0.1:9/x.png", "refused")


def checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Path]:
    """A run with a finding as JSON, and the page of it."""
    saved, page = folder / "run.json", folder / "report.html"
    subject = f"{FAULT.write(folder)}:{FAULT.function}"
    options = ["--seed", "2", "--cases", "24", "--gradient-cases", "0", "--dtypes", "float32", "--checks", "answers,oracle"]
    with monkeypatch.context() as patch, saved.open("w", encoding="utf-8") as out:
        patch.setattr("sys.stdout", out)
        assert main(["check", subject, "--as", FAULT.api, *options, "--format", "full"]) == 1
    assert main(["report", str(saved), "--out", str(page)]) == 0
    return json.loads(saved.read_text(encoding="utf-8")), page


def a_place_of_the_matrix_opens_to_its_cases(lane: dict[str, Any]) -> None:
    assert (lane["was_open"], lane["is_open"]) == (False, True)
    assert "float32" in lane["text"]
    assert "is aligned bottom-right" in lane["text"]


def a_finding_shows_its_cause_its_case_its_masks_and_how_to_see_it_again(
    found: dict[str, Any], finding: dict[str, Any], evidence: dict[str, Any]
) -> None:
    assert "is aligned bottom-right (s <= t + (S - T)), declared s <= t" in found["text"]
    for text in (finding["case"], finding["replay"], *finding["answers"]):
        assert text in found["text"]
    assert evidence["script"].strip() not in found["was_shown"]
    assert evidence["script"].strip() in found["script"]
    assert len(found["squares"]) == len(evidence["pictures"]) >= 2
    assert all(width > 0 for width in found["squares"])
