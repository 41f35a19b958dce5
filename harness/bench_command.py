"""`attnspec bench`: cases per second of every lane after warm-up, on one core, oracle, bounds and checks included.

Conductor and lane share one core, and what counts is the processor time that both took: other work on the machine does
not change the figure.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence

from attnspec.harness.cases import Case, Configuration, pool
from attnspec.harness.check_command import UsageError, found, lanes_named
from attnspec.harness.checks import CASE_CHECKS
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.crew import Crew
from attnspec.harness.drive import drive
from attnspec.harness.exit_codes import OK, USAGE
from attnspec.harness.lanes.framework import DTYPES, FORWARD_ONLY
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.subjects import LANES, Subject, subjects_of
from attnspec.harness.tally import Tally
from attnspec.spec.loader import SpecError, builtin
from attnspec.spec.model import Spec

POOL = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec bench`."""
    parser.add_argument("specs", nargs="*", metavar="SPEC", help="built-in specs or TOML files; all built-in ones by default")
    chosen = f"frameworks ({','.join(LANES)}; by default all)"
    parser.add_argument("--targets", type=lanes_named, default=LANES, metavar="A,B", help=chosen)
    parser.add_argument("--dtype", default="float32", help="dtype of the cases (float32)")
    parser.add_argument("--cases", type=int, default=960, metavar="N", help="cases per measurement (960)")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec bench` with parsed options."""
    try:
        specs = [found(name)[0] for name in options.specs] or list(builtin().values())
    except (UsageError, SpecError) as error:
        print(error, file=sys.stderr)
        return USAGE
    _one_core()
    with Crew([Lane(name) for name in options.targets]) as crew:
        for lane, why in crew.missing.items():
            print(f"not covered: {lane}: {why}")
        print(f"{'cases/s on one core, ' + options.dtype:<60} forward  gradients")
        for spec in specs:
            for subject in crew.present(subjects_of(spec, options.targets)):
                if options.dtype in DTYPES[subject.lane]:
                    rates = list(measure(crew, spec, subject, options.dtype, options.cases))
                    gradients = f"{rates[1]:9.0f}" if len(rates) > 1 else "        -"
                    print(f"{subject.name:<60} {rates[0]:7.0f}  {gradients}", flush=True)
    return OK


def _one_core() -> None:
    """Stay on one core; the lanes inherit it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def measure(crew: Crew, spec: Spec, subject: Subject, dtype: str, count: int) -> Iterator[float]:
    """Cases per second, forward and then with gradients, after every configuration ran once."""
    configurations = pool(spec, dtype, POOL)
    for gradient in (False,) if subject.lane in FORWARD_ONLY else (False, True):
        _work(crew, spec, subject, configurations, len(configurations), gradient)
        started = _seconds(crew)
        _work(crew, spec, subject, configurations, count, gradient)
        yield count / (_seconds(crew) - started)
    crew.forget(configurations)


def _seconds(crew: Crew) -> float:
    """Processor time of the conductor and all lanes."""
    return time.process_time() + sum(lane.cpu_seconds for lane in crew.lanes.values())


def _work(
    crew: Crew, spec: Spec, subject: Subject, configurations: tuple[Configuration, ...], count: int, gradient: bool
) -> None:
    tally = Tally()

    def handle(batch: Sequence[Case]) -> None:
        for evidence in crew.evidence(spec, [subject], batch, gradient=gradient):
            if isinstance(evidence, Evidence):
                tally.add(evidence)
                for check in CASE_CHECKS.values():
                    list(check(evidence))

    drive(configurations, count, 0, handle)
