"""Writes the script of each finding to a folder, and hands the finding on with the file's name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from attnspec.harness.events import Event, Finished, Found, Subscriber
from attnspec.harness.findings import Finding


class ScriptsReport:
    """A subscriber around another one, which sees where the scripts are."""

    def __init__(self, folder: Path, reporter: Subscriber) -> None:
        self._folder = folder
        self._reporter = reporter
        self._findings: list[Finding] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Found):
            self._findings.append(self._written(event.finding))
            event = Found(self._findings[-1])
        elif isinstance(event, Finished):
            event = replace(event, findings=tuple(self._findings))
        self._reporter(event)

    def _written(self, finding: Finding) -> Finding:
        if not finding.script:
            return finding
        self._folder.mkdir(parents=True, exist_ok=True)
        words = f"{len(self._findings) + 1} {finding.failure.check} {finding.failure.clause}"
        file = self._folder / f"{re.sub(r'[^a-z0-9]+', '_', words.lower()).strip('_')}.py"
        file.write_text(finding.script, encoding="utf-8")
        return replace(finding, file=str(file))
