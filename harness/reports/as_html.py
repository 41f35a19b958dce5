"""The run as one HTML page, written when it is over; `attnspec report` makes the same page of a saved run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnspec.harness.events import Event, Finished
from attnspec.harness.files import try_to_write, write_whole
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
        with page_errors(file):
            try_to_write(file)

    def __call__(self, event: Event) -> None:
        self._json(event)
        if isinstance(event, Finished):
            write(self._file, page(from_json(self._saved.getvalue(), "this run")))


def write(file: Path, text: str) -> None:
    """Write a whole page or nothing. Raises PageError."""
    with page_errors(file):
        write_whole(file, text)


@contextmanager
def page_errors(file: Path) -> Iterator[None]:
    """What the system says, as a PageError."""
    try:
        yield
    except OSError as error:
        raise PageError(f"{file}: {error.strerror}") from None
