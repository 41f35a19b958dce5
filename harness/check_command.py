"""`attnspec check`: the built-in specs, a user's spec, or a user's own function against an API."""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO

from attnspec.harness import checks, inputs, known_deviations
from attnspec.harness.conductor import Conductor
from attnspec.harness.events import Subscriber
from attnspec.harness.exit_codes import FINDINGS, OK, USAGE
from attnspec.harness.inputs import Inputs, InputsError
from attnspec.harness.introduce import lane_of
from attnspec.harness.kept import KeptError, read
from attnspec.harness.plan import DTYPES, ON_REQUEST, PROFILES, Item, Plan, Profile, is_spared, without_spared
from attnspec.harness.reports.as_html import HtmlReport, PageError
from attnspec.harness.reports.as_json import JsonReport
from attnspec.harness.reports.as_json_lines import JsonLinesReport
from attnspec.harness.reports.as_junit import JunitReport
from attnspec.harness.reports.scripts import ScriptsReport
from attnspec.harness.reports.terminal import TerminalReport
from attnspec.harness.subjects import LANES, Subject, SubjectError, lanes_of, subjects_of, target_of, user
from attnspec.spec.loader import SpecError, builtin, find
from attnspec.spec.model import Spec

FORMATS: Mapping[str, Callable[[TextIO], Subscriber]] = {
    "terminal": TerminalReport,
    "json": JsonReport,
    "full": partial(JsonReport, full=True),
    "json-lines": JsonLinesReport,
    "junit": JunitReport,
}
OWN = ""  # the interpreter of the user's subject


class UsageError(ValueError):
    """A wrong command line; the message is for the user."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec check`."""
    add = parser.add_argument
    what = "built-in specs or TOML files (all built-in ones by default); with --as, one `module:function`"
    add("what", nargs="*", metavar="SPEC | SUBJECT", help=what)
    add("--as", dest="api", metavar="API", help="the API that SUBJECT claims to be")
    add("--framework", choices=LANES, help="what SUBJECT is written in; by default what importing its module brings along")
    all_of = "`keras` is all three of its own; by default all, but for {} in quick".format(", ".join(ON_REQUEST))
    frameworks = f"frameworks ({','.join(LANES)}; {all_of})"
    add("--targets", type=lanes_named, metavar="A,B", help=frameworks)
    add("--native", action=argparse.BooleanOptionalAction, default=True, help="check the frameworks' own functions too")
    add("--generated", type=Path, metavar="FOLDER", help="where the generated files are; by default the package's own")
    add("--dtypes", type=_names(DTYPES), default=DTYPES, metavar="A,B", help=f"dtypes ({','.join(DTYPES)})")
    add("--profile", choices=PROFILES, default="quick", help="how much to try (quick, in which jax compiles in haste)")
    add("--cases", type=_count, metavar="N", help="forward cases per spec and dtype, instead of the profile's")
    add("--gradient-cases", type=_count, metavar="N", help="gradient cases per spec and dtype, instead of the profile's")
    add("--seed", type=int, metavar="N", help="repeat the run of this seed; by default a new one, printed")
    state = "keep what is done there, spec by spec; the same command goes on where it was interrupted"
    add("--state", type=Path, metavar="FILE", help=state)
    add("--checks", type=_names(checks.NAMES), default=(), metavar="A,B", help=f"only these checks ({','.join(checks.NAMES)})")
    add("--skip-check", type=_names(checks.NAMES), default=(), metavar="A,B", help="all checks but these")
    add("--format", choices=FORMATS, default="terminal", help=f"{', '.join(FORMATS)} (harness/reports/README.md)")
    add("--report", type=Path, metavar="FILE", help="write one HTML page of the run too, as `attnspec report` does")
    add("--scripts", type=Path, metavar="FOLDER", help="write a stand-alone script for each finding, which needs no attnspec")
    add(
        "--inputs",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.npz",
        help="check these saved tensors too, by argument",
    )
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="another argument of the call on --inputs")
    python = "run SUBJECT, or one framework, in another interpreter that has NumPy and the framework; may be repeated"
    add("--python", action="append", default=[], metavar="[FRAMEWORK=]PATH", help=python)
    add("--deadline", type=float, default=120.0, metavar="SECONDS", help="a lane that is silent for longer hangs")


def lanes_named(text: str) -> tuple[str, ...]:
    """Lanes by name; a target's name stands for all of its lanes."""
    chosen = _names(tuple(dict.fromkeys((*LANES, *map(target_of, LANES)))))(text)
    return tuple(dict.fromkeys(lane for name in chosen for lane in ((name,) if name in LANES else lanes_of(name))))


def _usual_lanes(profile: Profile, spec: Spec) -> tuple[str, ...]:
    """The lanes of a run that names none."""
    return tuple(lane for lane in LANES if not (profile.is_short and is_spared(spec, lane)))


def _names(allowed: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        for name in chosen:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"expected names of {', '.join(allowed)}, got {name!r}")
        return chosen

    return names


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a count, got {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Run `attnspec check` with parsed options; returns the exit code."""
    reporter = FORMATS[options.format](sys.stdout)
    if options.scripts:
        reporter = ScriptsReport(options.scripts, reporter)
    try:
        pages = [HtmlReport(options.report)] if options.report else []
        return OK if Conductor(plan_of(options), [reporter, *pages]).run().passed else FINDINGS
    except (UsageError, SubjectError, SpecError, InputsError, PageError, KeptError, known_deviations.DeviationError) as error:
        print(error, file=sys.stderr)
        return USAGE


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for."""
    interpreters = _interpreters(options)
    if options.generated and not options.generated.is_dir():
        raise UsageError(f"--generated: there is no folder {options.generated}")
    if options.api:
        items = [_user_item(options, interpreters)]
    else:
        items = [_item(spec, reference, options) for spec, reference in _specs(options.what)]
    lanes = tuple(lane for lane in LANES if any(lane == s.lane for item in items for s in item.subjects))
    seed = _seed(options)
    return Plan(
        items=tuple(items),
        profile=_profile(options),
        seed=seed,
        lanes=lanes,
        dtypes=options.dtypes,
        checks=checks.select(options.checks, options.skip_check),
        deviations=known_deviations.load(),
        inputs=_inputs(options, items),
        interpreters=interpreters,
        deadline=options.deadline,
        command=_command(options, seed),
        state=options.state,
    )


def _seed(options: argparse.Namespace) -> int:
    """The one that is asked for, that of the run that goes on, or a new one."""
    if options.state and options.inputs:
        raise UsageError("--state: a run with --inputs cannot be kept")
    if options.seed is not None:
        return int(options.seed)
    kept = read(options.state) if options.state else None
    return kept.seed if kept else secrets.randbits(32)


def _command(options: argparse.Namespace, seed: int) -> str:
    """What was typed, with the run's seed; nothing where Python calls."""
    typed: list[str] = getattr(options, "given", [])
    seeded = typed if options.seed is not None else [*typed, "--seed", str(seed)]
    return shlex.join(["attnspec", *seeded]) if typed else ""


def _inputs(options: argparse.Namespace, items: Sequence[Item]) -> tuple[Inputs, ...]:
    if options.set and not options.inputs:
        raise UsageError("--set: there is no --inputs whose call it is about")
    if options.inputs and len(items) != 1:
        raise UsageError(f"--inputs: expected one SPEC or SUBJECT, got {len(items)}")
    return tuple(inputs.read(file, options.set, items[0].spec) for file in options.inputs)


def _specs(names: Sequence[str]) -> list[tuple[Spec, str]]:
    """Specs with what finds them again from any folder."""
    if not names:
        return [(spec, name) for name, spec in builtin().items()]
    for name in names:
        if ":" in name and not name.endswith(".toml"):
            raise UsageError(f"{name}: a function is checked as an API: add --as API")
    return [found(name) for name in names]


def found(name: str) -> tuple[Spec, str]:
    """The spec of that name or file, and its reference."""
    reference = str(Path(name).resolve()) if name.endswith(".toml") else name
    try:
        return find(name), reference
    except KeyError as error:
        raise UsageError(str(error.args[0])) from None


def _item(spec: Spec, reference: str, options: argparse.Namespace) -> Item:
    profile = PROFILES[options.profile]
    lanes = options.targets or _usual_lanes(profile, spec)
    subjects = subjects_of(spec, lanes, native_too=options.native, folder=options.generated)
    if profile.is_short and not options.targets:
        subjects = without_spared(subjects)
    return Item(spec, reference, subjects, str(options.generated.resolve()) if options.generated else "")


def _user_item(options: argparse.Namespace, interpreters: dict[str, str]) -> Item:
    """The user's function alone: the oracle judges it, nothing else needs to be installed."""
    if len(options.what) != 1:
        raise UsageError(f"Expected one SUBJECT with --as, got {len(options.what)}: {' '.join(options.what)}".rstrip(": "))
    spec, reference = found(options.api)
    own = interpreters.pop(OWN, None)
    lane = options.framework or lane_of(options.what[0], spec, own)
    if own:
        interpreters[lane] = own
    subject: Subject = user(options.what[0], spec, lane)
    return Item(spec, reference, (subject,))


def _profile(options: argparse.Namespace) -> Profile:
    profile = PROFILES[options.profile]
    if options.cases is not None:
        profile = replace(profile, cases=options.cases)
    if options.gradient_cases is not None:
        profile = replace(profile, gradient_cases=options.gradient_cases)
    return profile


def _interpreters(options: argparse.Namespace) -> dict[str, str]:
    """Interpreters by lane; under OWN that of the subject, whose lane is not known yet."""
    chosen = {}
    for text in options.python:
        lane, equals, path = text.partition("=")
        if not equals and options.api:
            lane, path = OWN, text
        elif not equals or lane not in LANES:
            raise UsageError(f"--python: expected FRAMEWORK=PATH with one of {', '.join(LANES)}, got {text!r}")
        chosen[lane] = path
    return chosen
