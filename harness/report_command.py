"""`attnspec report`: a saved run as one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attnspec.harness.exit_codes import OK, USAGE
from attnspec.harness.reports.as_html import PageError, write
from attnspec.harness.reports.page import page
from attnspec.harness.reports.saved_run import SavedRunError, read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec report`."""
    saved = "a run: what `attnspec check --format full` printed, or `--format json-lines`"
    parser.add_argument("saved", type=Path, metavar="RUN.json", help=saved)
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="the page (report.html)")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec report`: whatever the run found, the page of it is written or the command is wrong."""
    try:
        write(options.out, page(read(options.saved)))
    except (SavedRunError, PageError) as error:
        print(error, file=sys.stderr)
        return USAGE
    print(options.out)
    return OK
