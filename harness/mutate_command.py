"""`attnspec mutate`: plants faults by itself and prints those that no check finds. The harness, judged.

Every single-field perturbation of a spec (perturbations.py) is compiled like the spec itself; every mutant of what the spec
compiles to (mutants.py) is a slip in the code. An implementation that is no worse for its change is *equivalent*: those that
are known are in equivalent_mutants.toml, each with its reason.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from attnspec.harness.cases import pool
from attnspec.harness.causes.perturbations import perturbations
from attnspec.harness.check_command import UsageError, found
from attnspec.harness.checks import arguments
from attnspec.harness.crew import Crew
from attnspec.harness.exit_codes import FINDINGS, OK, USAGE
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.mutants import mutants
from attnspec.harness.subjects import Subject
from attnspec.harness.survival import survivors
from attnspec.spec.loader import SpecError
from attnspec.spec.model import Spec

TARGETS = ("numpy", "torch", "jax")
KINDS = ("spec", "code")
CONTROL = "the implementation as it is"
EQUIVALENT = Path(__file__).parent / "equivalent_mutants.toml"
DEADLINE = 30.0

Compile = Callable[[Spec, str, bool], str | None]
"""The source of a spec for a target, formatted or not; None where that cannot be compiled."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A faulty source. `about` says what is wrong with it."""

    about: str
    source: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec mutate`."""
    add = parser.add_argument
    add("spec", metavar="SPEC", help="a built-in spec or a TOML file")
    add("--target", choices=TARGETS, default="numpy", help="what the faults are compiled for (numpy)")
    add("--kind", choices=KINDS, help="only faults of the spec, or of the code")
    add("--every", type=int, default=1, metavar="N", help="only one fault in N")
    add("--cases", type=int, default=256, metavar="N", help="cases for each (256)")
    add("--seed", type=int, default=0, metavar="N", help="the seed of the cases (0)")
    add("--limit", type=float, default=0.05, metavar="SHARE", help="the share that may live, of those not known as equivalent")


def run(options: argparse.Namespace, compiled: Compile) -> int:
    """Run `attnspec mutate`; 1 where more live than the limit allows, or the implementation itself fails."""
    try:
        spec, _ = found(options.spec)
    except (UsageError, SpecError) as error:
        print(error, file=sys.stderr)
        return USAGE
    text = compiled(spec, options.target, True)
    if text is None:
        print(f"{options.target} has no implementation of {spec.name}", file=sys.stderr)
        return USAGE
    kinds = [options.kind] if options.kind else KINDS
    return max([_run_kind(options, spec, text, compiled, kind) for kind in kinds])


def _run_kind(options: argparse.Namespace, spec: Spec, text: str, compiled: Compile, kind: str) -> int:
    made = _of_spec(spec, options.target, compiled) if kind == "spec" else _of_code(text)
    planted = list(made)[:: options.every]
    alive = _alive(options, spec, [Planted(CONTROL, text), *planted])
    if CONTROL not in alive:
        print(f"{spec.name} for {options.target}: the implementation itself fails; run `attnspec check {options.spec}`")
        return FINDINGS
    equivalent = {
        each.about: why for each in planted if each.about in alive and (why := _equivalence(spec, options.target, each.about))
    }
    unexplained = [each.about for each in planted if each.about in alive and each.about not in equivalent]
    counted = len(planted) - len(equivalent)
    dead = counted - len(unexplained)
    print(f"{spec.name} for {options.target}, faults of the {kind}: {dead} of {counted} found, {len(equivalent)} equivalent")
    for about, why in equivalent.items():
        print(f"  equivalent  {about}: {why}")
    for about in unexplained:
        print(f"  survived    {about}")
    return FINDINGS if len(unexplained) > options.limit * counted else OK


def _of_spec(spec: Spec, target: str, compiled: Compile) -> Iterator[Planted]:
    """Each single-field fault that compiles to something else, once."""
    seen = {compiled(spec, target, False)}
    configurations = [*pool(spec, "float16", 24), *(case.configuration for case in arguments.cases(spec, "float32")[0])]
    for configuration in configurations:
        for cause, changed in perturbations(spec, configuration):
            source = compiled(changed, target, False)
            if source is not None and source not in seen:
                seen.add(source)
                yield Planted(cause.text, source)


def _of_code(text: str) -> Iterator[Planted]:
    for number, mutant in enumerate(mutants(text)):
        line = text.splitlines()[mutant.line - 1].strip()
        yield Planted(f"line {mutant.line}: {mutant.change} in `{line}` ({number})", mutant.source)


def _alive(options: argparse.Namespace, spec: Spec, planted: Sequence[Planted]) -> set[str]:
    """What the faults are about that nothing finds."""
    with TemporaryDirectory() as folder, Crew([Lane(options.target, deadline=DEADLINE, hasty=True)]) as crew:
        if crew.missing:
            raise UsageError(f"{options.target}: {crew.missing[options.target]}")
        subjects = [_written(Path(folder), number, each, spec, options.target) for number, each in enumerate(planted)]
        about = {subject.name: each.about for subject, each in zip(subjects, planted, strict=True)}
        return {about[subject.name] for subject in survivors(crew, spec, subjects, options.cases, options.seed)}


def _written(folder: Path, number: int, planted: Planted, spec: Spec, target: str) -> Subject:
    file = folder / f"fault_{number}.py"
    file.write_text(planted.source, encoding="utf-8")
    return Subject(f"fault {number}", spec.name, target, str(file), spec.name.rpartition(".")[2])


@cache
def _known() -> tuple[dict[str, str], ...]:
    return tuple(tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["equivalent"])


def _equivalence(spec: Spec, target: str, about: str) -> str:
    """Why a change is none, where that is known."""
    here = (each for each in _known() if each.get("spec", spec.name) == spec.name and each.get("target", target) == target)
    return next((each["why"] for each in here if each["change"] in about), "")
