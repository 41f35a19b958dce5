"""`attnspec reproduce`: every known deviation as a script that needs no attnspec, ready for an issue upstream."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from attnspec.harness import known_deviations
from attnspec.harness.crew import Crew
from attnspec.harness.exit_codes import FINDINGS, OK, USAGE
from attnspec.harness.known_deviations import Deviation, within
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.scripts import script
from attnspec.harness.scripts.known import failure_of
from attnspec.harness.subjects import LANES, Subject, natives
from attnspec.spec.loader import builtin
from attnspec.spec.model import Spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec reproduce`."""
    add = parser.add_argument
    add("words", nargs="*", metavar="WORD", help="only deviations that name all of these, in any of their keys")
    add("--out", type=Path, default=Path("reproducers"), metavar="FOLDER", help="where the scripts are (reproducers)")
    add("--again", action="store_true", help="write scripts anew that are there")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec reproduce`: 1 where a deviation that applies does not show."""
    wanted = [each for each in known_deviations.load() if all(word in repr(each) for word in options.words)]
    if not wanted:
        print(f"no known deviation names {' and '.join(options.words)}", file=sys.stderr)
        return USAGE
    files = {each: options.out / file_of(each) for each in wanted}
    subjects = {subject.name: (spec, subject) for spec in builtin().values() for subject in natives(spec)}
    missing = [each for each in wanted if each.subject in subjects and (options.again or not files[each].exists())]
    lost = 0
    for lane in (lane for lane in LANES if any(subjects[each.subject][1].lane == lane for each in missing)):
        with Crew([Lane(lane)]) as crew:
            for name, why in crew.missing.items():
                print(f"not covered: {name}: {why}")
            here = [(each, *subjects[each.subject]) for each in missing if subjects[each.subject][1].lane == lane]
            for deviation, text in _scripts(here, crew):
                lost += not text
                print(f"{files[deviation]}" if text else f"does not show: {deviation}", flush=True)
                if text:
                    files[deviation].parent.mkdir(parents=True, exist_ok=True)
                    files[deviation].write_text(text, encoding="utf-8")
    return FINDINGS if lost else OK


def file_of(deviation: Deviation) -> Path:
    """The file of a deviation's script: a folder for its subject; guards are told apart by a digest."""
    what = " ".join([deviation.check, deviation.clauses[0], deviation.seen, *deviation.dtype.split(",")])
    guard = deviation.when + deviation.shortcut
    digest = f"_{blake2b(guard.encode(), digest_size=2).hexdigest()}" if guard else ""
    words = "_".join(re.findall(r"[a-z0-9]+", what.lower()))
    return Path(deviation.subject.partition(":")[2]) / f"{words}{digest}.py"


def _scripts(entries: Sequence[tuple[Deviation, Spec, Subject]], crew: Crew) -> Iterator[tuple[Deviation, str]]:
    """The script of each deviation that applies to what is installed; empty where no call shows it."""
    for deviation, spec, subject in entries:
        if subject.lane not in crew.lanes or not within(crew.version(subject), deviation.versions):
            continue
        failure = failure_of(deviation, spec, subject, crew)
        about = f"{subject.name.partition(':')[2]} {crew.version(subject)}, {deviation.check}. {deviation.why}"
        yield deviation, script(spec, subject, failure, about) if failure else ""
