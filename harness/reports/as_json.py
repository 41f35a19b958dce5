"""The run as one JSON object (schema 1), written when it is over. README.md beside this file documents every key.

`json` is what stays as it is within a schema; `full` adds whatever else the run counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TextIO

from attnspec.harness.events import Event, Finished, Started
from attnspec.harness.findings import Finding
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.mask_pictures import of_spec
from attnspec.harness.subjects import LANES
from attnspec.harness.tally import EDGES

SCHEMA = 1


class JsonReport:
    """Keeps the first event and writes everything at the last."""

    def __init__(self, out: TextIO, *, full: bool = False) -> None:
        self._out = out
        self._full = full
        self._started: Started | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._started = event
        if isinstance(event, Finished):
            assert self._started is not None
            written = report(self._started, event) | (details(self._started, event) if self._full else {})
            json.dump(written, self._out, indent=2)
            self._out.write("\n")


def report(started: Started, finished: Finished) -> dict[str, Any]:
    """What `json` promises. Infinities and NaN are text, for JSON has neither."""
    subjects = _subjects(finished)
    only = subjects[0] if len(subjects) == 1 else {"subject": None, "api": None, "arguments": {}}
    return {
        "schema": SCHEMA,
        "subject": only["subject"],
        "api": only["api"],
        "passed": finished.passed,
        "versions": {lane: dict(versions) for lane, versions in started.versions.items()},
        "seed": started.seed,
        "cases": finished.tally.cases,
        "coverage": {
            spec: {argument: dict(values) for argument, values in taken.items()} for spec, taken in finished.tally.taken.items()
        },
        "findings": [finding_of(finding) for finding in finished.findings],
        "arguments": only["arguments"],
        "subjects": subjects,
        "errors": list(finished.errors),
        "not_covered": list(finished.not_covered),
    }


def details(started: Started, finished: Finished) -> dict[str, Any]:
    """What `full` adds."""
    return {
        "command": started.command,
        "profile": started.profile,
        "checks": list(started.checks),
        "seconds": round(finished.seconds, 3),
        "lanes": _lanes(started),
        "implementations": [
            {"api": item.spec.name, "subject": subject.name, "lane": subject.lane}
            for item in started.items
            for subject in item.subjects
        ],
        "matrix": _matrix(finished),
        "ratio_edges": list(EDGES),
        "shares": _shares(finished),
        "known_deviations": [_deviation(entry, seen) for entry, seen in finished.deviations.items()],
        "notes": list(finished.notes),
        "evidence": [_evidence(finding) for finding in finished.findings],
        "masks": {item.spec.name: [asdict(picture) for picture in of_spec(item.spec)] for item in started.items},
    }


def _lanes(started: Started) -> dict[str, str]:
    """What became of every lane: `open`, `not asked for`, or why it is missing."""
    return {lane: "open" if lane in started.versions else started.missing.get(lane, "not asked for") for lane in LANES}


def _evidence(finding: Finding) -> dict[str, Any]:
    """What there is to see of a finding, beside what is promised."""
    pictures = [asdict(picture) for picture in finding.pictures]
    return {"explained": finding.explained, "asked": finding.asked, "script": finding.script, "pictures": pictures}


def _deviation(entry: Deviation, seen: int) -> dict[str, Any]:
    named = {name: value for name, value in asdict(entry).items() if name != "seen"}
    return {"entry": str(entry), "seen": seen, **named, "instead": entry.seen}


def _subjects(finished: Finished) -> list[dict[str, Any]]:
    """Every subject that was called, with what became of its arguments."""
    tally = finished.tally
    called = dict.fromkeys([*((spec, subject) for spec, subject, _ in tally.cells), *tally.arguments])
    return [
        {"subject": subject, "api": spec, "arguments": dict(tally.arguments.get((spec, subject), {}))}
        for spec, subject in called
    ]


def _matrix(finished: Finished) -> list[dict[str, Any]]:
    return [
        {
            "api": spec,
            "subject": subject,
            "dtype": dtype,
            "cases": cell.cases,
            "gradient_cases": cell.gradient_cases,
            "unanswered": cell.unanswered,
            "worst_error_over_bound": number(cell.outputs.worst),
            "worst_gradient_error_over_bound": number(cell.gradients.worst),
            "worst_case": cell.outputs.call,
            "worst_gradient_case": cell.gradients.call,
            "ratios": list(cell.outputs.counts),
            "gradient_ratios": list(cell.gradients.counts),
        }
        for (spec, subject, dtype), cell in finished.tally.cells.items()
    ]


def _shares(finished: Finished) -> list[dict[str, Any]]:
    return [
        {
            "api": spec,
            "dtype": dtype,
            "cases": share.cases,
            "ill_conditioned": share.ill_conditioned,
            "invalid": share.invalid,
            "sampled": share.sampled,
            "vacuous": share.vacuous,
        }
        for (spec, dtype), share in finished.tally.shares.items()
    ]


def finding_of(finding: Finding) -> dict[str, Any]:
    """A finding as an object."""
    failure = finding.failure
    return {
        "cause": finding.title,
        "causes": list(finding.causes),
        "stage": finding.stage,
        "subject": failure.subject,
        "check": failure.check,
        "clause": failure.clause,
        "api": failure.api,
        "path": finding.path,
        "seen": failure.seen,
        "also": list(finding.also),
        "case": finding.case,
        "failing": finding.failing,
        "cases": finding.cases,
        "dtypes": list(finding.dtypes),
        "versions": dict(finding.versions),
        "worst": _worst(finding),
        "answers": {shown.subject: shown.text for shown in finding.answers},
        "replay": finding.replay,
    }


def _worst(finding: Finding) -> Mapping[str, Any] | None:
    worst = finding.failure.worst
    if worst is None:
        return None
    return {
        "index": list(worst.index),
        "got": number(worst.got),
        "want": number(worst.want),
        "bound": number(worst.bound),
        "error_over_bound": number(worst.error_over_bound),
    }


def number(value: float) -> float | str:
    """A number, or a text where JSON has none."""
    return value if math.isfinite(value) else str(value)
