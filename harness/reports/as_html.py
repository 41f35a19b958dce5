"""The run as one HTML page, written when it is over; `attnspec report` makes the same page of a saved run."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

from attnspec.harness.events import Event, Finished
from attnspec.harness.reports.as_json import JsonReport
from attnspec.harness.reports.page import page
from attnspec.harness.reports.saved_run import from_json


class PageError(ValueError):
    """A page that cannot be written where it was asked for."""


class HtmlReport:
    """Keeps the run as `full` has it and writes the page at its end. PageError at once where it could not."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._saved = io.StringIO()
        self._json = JsonReport(self._saved, full=True)
        write(file, None)

    def __call__(self, event: Event) -> None:
        self._json(event)
        if isinstance(event, Finished):
            write(self._file, page(from_json(self._saved.getvalue(), "this run")))


def write(file: Path, text: str | None) -> None:
    """Write a whole page or nothing: it takes its name when it is complete. Without a text only see whether that would go."""
    if file.is_dir():
        raise PageError(f"{file}: is a folder")
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text or "", encoding="utf-8", errors="replace")
        if text is None:
            part.unlink()
        else:
            part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise PageError(f"{file}: {error.strerror}") from None
