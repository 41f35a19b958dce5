"""`attnspec compare`: one small call, the answer of every API's own implementation, and the policy that explains each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from attnspec.harness.check_command import UsageError, found
from attnspec.harness.checks.agreement import compare
from attnspec.harness.crew import Crew
from attnspec.harness.exit_codes import OK, USAGE
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.oracle.judge import judged
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.situations import SITUATIONS, NotExpressible, Situation, Way, clause_of, ways_of
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
        ways = {spec.name: ways_of(spec, situation) for spec in specs}
    except (UsageError, SpecError, NotExpressible) as error:
        print(error, file=sys.stderr)
        return USAGE
    shown = {spec.name: _subjects(spec, options.generated) for spec in specs}
    print(f"{options.on}: {situation.story}\n\n    value = {_rows(situation.value)}")
    with Crew([Lane(name) for name in dict.fromkeys(s.lane for subjects in shown.values() for s in subjects)]) as crew:
        for spec in specs:
            for way in ways[spec.name]:
                for subject in shown[spec.name]:
                    print("\n" + "\n".join(_answer(crew, spec, way, subject)))
                print("\n".join(_explanation(spec, way, situation)))
    return OK


def _subjects(spec: Spec, generated: bool) -> Sequence[Subject]:
    own = natives(spec)
    return subjects_of(spec, LANES) if generated or not own else own


def _answer(crew: Crew, spec: Spec, way: Way, subject: Subject) -> Iterator[str]:
    name = subject.name.removeprefix("native:")
    if subject.lane in crew.missing:
        yield f"{name}: not covered: {crew.missing[subject.lane]}"
        return
    yield f"{name} ({subject.lane} {crew.version(subject)})" + (f", {way.said}" if way.said else "")
    answer = crew.lanes[subject.lane].call(spec, subject, way.configuration, way.arrays)
    if not isinstance(answer, Returned):
        yield f"    {answer}"
        return
    output = answer.outputs[spec.outputs[0].name]
    yield from (f"    query {number}  {_row(row)}" for number, row in enumerate(_by_query(output.array)))
    gold = judged(plan_of(spec, way.configuration), way.arrays, False).outputs[spec.outputs[0].name]
    if not compare(output, gold).agrees:
        yield f"    This deviates from the spec, which has {_rows(_by_query(gold.value))}."


def _explanation(spec: Spec, way: Way, situation: Situation) -> Iterator[str]:
    """The policies of the path, or the rule of the mask."""
    path = next(path for path in spec.paths if path.name == way.path)
    yield from (f"    {name} = {_policy(path.policies[name])}" for name in situation.policies)
    if not situation.policies:
        clause = clause_of(spec, situation).clause
        yield from (f"    {s.clause}: {to_text(fold(s.expression))}" for s in path.stages if s.clause == clause)


def _policy(policy: Policy) -> str:
    why = f": {policy.why}" if policy.why else ""
    return f"{policy.text}  ({policy.source}{' at ' + policy.version if policy.version else ''}{why})"


def _by_query(output: Array) -> Array:
    return output.reshape(-1, output.shape[-1])


def _rows(array: Array) -> str:
    return "[" + ", ".join(_row(row) for row in array) + "]"


def _row(row: Array) -> str:
    return "[" + " ".join(f"{value:.4g}" for value in np.asarray(row, np.float64)) + "]"
