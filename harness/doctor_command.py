"""`attnspec doctor`: what can be checked here, at which versions, and what to install for the rest."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from attnspec.harness.crew import Crew
from attnspec.harness.exit_codes import FINDINGS, OK
from attnspec.harness.known_deviations import load, within
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.subjects import LANES, generated, natives, target_of
from attnspec.spec.loader import builtin

INSTALL: Mapping[str, str] = {
    "numpy": "pip install numpy",
    "keras": "pip install 'attnspec[keras,{backend}]'",
    "r": "apt-get install r-base-core, or https://cran.r-project.org; Rscript has to be on the path",
}
EXTRA = "pip install 'attnspec[{target}]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec doctor`."""
    python = "look at a lane's frameworks in another interpreter; may be repeated"
    parser.add_argument("--python", action="append", default=[], metavar="LANE=PATH", help=python)


def run(options: argparse.Namespace) -> int:
    """Run `attnspec doctor`: 1 where some lane is not there."""
    interpreters = dict(text.split("=", 1) for text in options.python if "=" in text)
    unknown = [text for text in options.python if text.partition("=")[0] not in LANES or "=" not in text]
    if unknown:
        print(f"--python: expected LANE=PATH with one of {', '.join(LANES)}, got {unknown[0]!r}", file=sys.stderr)
        return 2
    print(f"attnspec {_version('attnspec')}, Python {platform.python_version()} ({sys.executable}), {platform.platform()}\n")
    with Crew([Lane(name, python=interpreters.get(name)) for name in LANES]) as crew:
        for line in _table(crew):
            print(line)
        for line in _advice(crew):
            print(line)
    return FINDINGS if crew.missing else OK


def _table(crew: Crew) -> Iterator[str]:
    """A line for each lane: its versions, and what of ours runs there; or what to do about it."""
    width = max(map(len, LANES))
    for name in LANES:
        if name in crew.lanes:
            versions = ", ".join(f"{package} {number}" for package, number in crew.lanes[name].versions.items())
            yield f"  {name:<{width}}  {versions}  ({_subjects(name)})"
        else:
            yield f"  {name:<{width}}  missing: {crew.missing[name]}"
            yield f"  {'':<{width}}  install: {how_to_install(name)}"


def _subjects(lane: str) -> str:
    """How many implementations run in a lane."""
    ours = sum(1 for spec in builtin().values() for _ in generated(spec, lane))
    theirs = sum(1 for spec in builtin().values() for subject in natives(spec) if subject.lane == lane)
    return f"{ours} generated, {theirs} native"


def how_to_install(lane: str) -> str:
    """The command that brings a lane's framework."""
    target, _, backend = lane.partition("-")
    return INSTALL.get(target, EXTRA).format(target=target_of(lane), backend=backend)


def _advice(crew: Crew) -> Iterator[str]:
    """What is there and is not what attnspec was checked with."""
    needs = [need.partition(";")[0].strip() for need in requires("attnspec") or ()] if _installed() else []
    pinned = dict(need.split("==", 1) for need in needs if "==" in need)
    for lane, opened in crew.lanes.items():
        for package, number in opened.versions.items():
            if package in pinned and number.partition("+")[0] != pinned[package]:
                yield f"  {lane}: {package} is {number}; its specs describe {pinned[package]}"
    subjects = {subject.name: subject for spec in builtin().values() for subject in natives(spec)}
    apply = [each for each in load() if each.subject in subjects and subjects[each.subject].lane in crew.lanes]
    here = [each for each in apply if within(crew.version(subjects[each.subject]), each.versions)]
    yield ""
    yield f"{len(here)} of {len(load())} known deviations apply to these versions; `attnspec reproduce` shows each."
    missing = ", ".join(crew.missing)
    yield f"Not covered here: {missing}." if missing else "Every lane is there."


def _version(package: str) -> str:
    return version(package) if _installed() else "(not installed)"


def _installed() -> bool:
    try:
        return bool(metadata("attnspec"))
    except PackageNotFoundError:
        return False
