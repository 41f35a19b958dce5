"""`attnspec compare`: one small call, the answer of every API's own implementation, and the policy that explains each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from attnspec.harness.check_command import UsageError, found
from attnspec.harness.crew import Crew
from attnspec.harness.exit_codes import OK, USAGE
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Answer, Array, Returned
from attnspec.harness.situations import SITUATIONS, NotExpressible, Situation, call_of
from attnspec.harness.subjects import LANES, Subject, natives, subjects_of
from attnspec.spec.expression import fold, to_text
from attnspec.spec.loader import SpecError
from attnspec.spec.model import Policy, Spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec compare`."""
    parser.add_argument("specs", nargs="+", metavar="SPEC", help="names of built-in specs, or TOML files")
    parser.add_argument("--on", choices=sorted(SITUATIONS), default="empty-row", help="the call to compare at")
    parser.add_argument("--generated", action="store_true", help="also show the generated implementations")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec compare`: prints the answers side by side."""
    situation = SITUATIONS[options.on]()
    try:
        specs = [found(name)[0] for name in options.specs]
        calls = [call_of(spec, situation) for spec in specs]
    except (UsageError, SpecError, NotExpressible) as error:
        print(error, file=sys.stderr)
        return USAGE
    shown = [(spec, subject) for spec in specs for subject in _subjects(spec, options.generated)]
    print(f"{situation.name}: {situation.story}\n\n{_table(situation)}")
    with Crew([Lane(name) for name in dict.fromkeys(subject.lane for _, subject in shown)]) as crew:
        for spec, (configuration, given) in zip(specs, calls, strict=True):
            for subject in (subject for of, subject in shown if of is spec):
                if subject.lane in crew.missing:
                    print(f"\n{subject.name}: not covered: {crew.missing[subject.lane]}")
                    continue
                answer = crew.lanes[subject.lane].call(spec, subject, configuration, given)
                print("\n" + "\n".join(_answer(spec, subject, crew.version(subject), answer)))
            print("\n".join(_explanation(spec, situation)))
    return OK


def _subjects(spec: Spec, generated: bool) -> Sequence[Subject]:
    own = natives(spec)
    return subjects_of(spec, LANES) if generated or not own else own


def _table(situation: Situation) -> str:
    return f"    value = {_rows(situation.value[0, :, 0])}"


def _answer(spec: Spec, subject: Subject, version: str, answer: Answer) -> Iterator[str]:
    yield f"{subject.name.removeprefix('native:')} ({subject.lane} {version})"
    if not isinstance(answer, Returned):
        yield f"    {answer}"
        return
    output = next(iter(answer.outputs.values())).array
    rows = output.reshape(-1, output.shape[-1])
    yield from (f"    query {number}  {_row(row)}" for number, row in enumerate(rows))


def _explanation(spec: Spec, situation: Situation) -> Iterator[str]:
    path = spec.paths[-1]
    yield from (f"    {name} = {_policy(path.policies[name])}" for name in situation.policies)
    if not situation.policies:
        yield from (f"    {s.clause}: {to_text(fold(s.expression))}" for s in path.stages if s.clause == situation.clause)


def _policy(policy: Policy) -> str:
    detail = f" with {policy.detail}" if policy.detail else ""
    why = f": {policy.why}" if policy.why else ""
    return f"{policy.value}{detail}  ({policy.source}{' at ' + policy.version if policy.version else ''}{why})"


def _rows(array: Array) -> str:
    return "[" + ", ".join(_row(row) for row in array) + "]"


def _row(row: Array) -> str:
    return "[" + " ".join(f"{value:.4g}" for value in np.asarray(row, np.float64)) + "]"
