"""The run as JSON lines: one object per event, written as it happens, so that a long run can be followed."""

from __future__ import annotations

import json
from typing import Any, TextIO

from attnspec.harness.events import Event, Finished, Found, Progress, Started
from attnspec.harness.reports.as_json import SCHEMA, details, finding_of, number, report


class JsonLinesReport:
    """Writes `started`, `progress`, `found` and `finished`; the last one holds what `full` does."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._started: Started | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._started = event
        self._out.write(json.dumps(self._line(event)) + "\n")
        self._out.flush()

    def _line(self, event: Event) -> dict[str, Any]:
        match event:
            case Started():
                versions = {lane: dict(versions) for lane, versions in event.versions.items()}
                named = {"schema": SCHEMA, "seed": event.seed, "profile": event.profile, "checks": list(event.checks)}
                return {"event": "started", **named, "versions": versions, "not_covered": list(event.not_covered)}
            case Progress():
                counted = {"done": event.done, "total": event.total, "findings": event.findings, "pace": dict(event.pace)}
                measured = {"worst_error_over_bound": number(event.worst), "seconds_left": number(event.left)}
                about = {"api": event.spec, "dtype": event.dtype, "gradient": event.gradient}
                return {"event": "progress", **about, **counted, **measured}
            case Found(finding):
                return {"event": "found", **finding_of(finding)}
            case Finished():
                assert self._started is not None
                return {"event": "finished", **report(self._started, event), **details(self._started, event)}
