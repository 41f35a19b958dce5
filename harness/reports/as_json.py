"""The run as one JSON object (schema 1), written when it is over."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO

from attnspec.harness.events import Event, Finished, Started
from attnspec.harness.findings import Finding

SCHEMA = 1


class JsonReport:
    """Keeps the first event and writes everything at the last."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._started: Started | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._started = event
        if isinstance(event, Finished):
            assert self._started is not None
            json.dump(report(self._started, event), self._out, indent=2)
            self._out.write("\n")


def report(started: Started, finished: Finished) -> dict[str, Any]:
    """The object: infinities and NaN are text, for JSON has neither."""
    return {
        "schema": SCHEMA,
        "passed": finished.passed,
        "seed": started.seed,
        "profile": started.profile,
        "checks": list(started.checks),
        "versions": {lane: dict(versions) for lane, versions in started.versions.items()},
        "seconds": round(finished.seconds, 3),
        "cases": finished.tally.cases,
        "matrix": _matrix(finished),
        "shares": _shares(finished),
        "coverage": {
            spec: {argument: dict(values) for argument, values in taken.items()} for spec, taken in finished.tally.taken.items()
        },
        "arguments": _arguments(finished),
        "findings": [_finding(finding) for finding in finished.findings],
        "known_deviations": [{"entry": str(entry), "seen": seen} for entry, seen in finished.deviations.items()],
        "errors": list(finished.errors),
        "notes": list(finished.notes),
        "not_covered": list(finished.not_covered),
    }


def _matrix(finished: Finished) -> list[dict[str, Any]]:
    return [
        {
            "api": spec,
            "subject": subject,
            "dtype": dtype,
            "cases": cell.cases,
            "gradient_cases": cell.gradient_cases,
            "unanswered": cell.unanswered,
            "worst_error_over_bound": _number(cell.worst),
            "worst_gradient_error_over_bound": _number(cell.worst_gradient),
        }
        for (spec, subject, dtype), cell in finished.tally.cells.items()
    ]


def _arguments(finished: Finished) -> dict[str, dict[str, str]]:
    """By subject, what became of each argument."""
    return {subject: dict(became) for (_, subject), became in finished.tally.arguments.items()}


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


def _finding(finding: Finding) -> dict[str, Any]:
    failure = finding.failure
    return {
        "cause": finding.title,
        "subject": failure.subject,
        "check": failure.check,
        "clause": failure.clause,
        "api": failure.api,
        "seen": failure.seen,
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
        "got": _number(worst.got),
        "want": _number(worst.want),
        "bound": _number(worst.bound),
        "error_over_bound": _number(worst.error_over_bound),
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
