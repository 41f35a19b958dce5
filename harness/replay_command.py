"""`attnspec replay`: one finding again, in fresh processes, with every installed subject's answer beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from attnspec.harness.check_command import UsageError, found
from attnspec.harness.checks import CASE_CHECKS, aftermath, arguments, preconditions, related_calls, relations, signature
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure
from attnspec.harness.crew import Crew
from attnspec.harness.exit_codes import FINDINGS, OK, USAGE
from attnspec.harness.findings import Replay, ReplayError, answers_at, case_text, read_replay, worst_text
from attnspec.harness.introduce import introduced
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Lost
from attnspec.harness.plan import Item
from attnspec.harness.subjects import LANES, Subject, subjects_of
from attnspec.spec.loader import SpecError
from attnspec.spec.model import Spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `attnspec replay`."""
    parser.add_argument("token", metavar="TOKEN | FILE", help="what a finding's `replay` line shows, or a file that holds it")
    parser.add_argument("--alone", action="store_true", help="run the failing subject only")


def run(options: argparse.Namespace) -> int:
    """Run `attnspec replay`: 1 where the finding shows again, 0 where it does not."""
    try:
        replay = read_replay(options.token)
        spec, _ = found(replay.spec)
    except (ReplayError, UsageError, SpecError) as error:
        print(error, file=sys.stderr)
        return USAGE
    others = () if options.alone else subjects_of(spec, LANES, folder=Path(replay.generated) if replay.generated else None)
    subjects = (replay.subject, *(s for s in others if s.name != replay.subject.name))
    pythons = {replay.subject.lane: replay.python or None}
    with Crew([Lane(name, python=pythons.get(name)) for name in dict.fromkeys(s.lane for s in subjects)]) as crew:
        for lane, why in crew.missing.items():
            print(f"not covered: {lane}: {why}")
        if replay.subject.lane in crew.missing:
            return USAGE
        spec = introduced(Item(spec, replay.spec, (replay.subject,)), crew).spec
        print(f"{replay.subject.name}: {replay.check}, `{replay.clause}`")
        if replay.case is not None:
            print(f"  call     {case_text(spec, replay.case)}, seed {replay.case.seed}")
        return _verdict(_failures(replay, spec, crew, subjects), replay)


def _verdict(failures: Iterable[Failure], replay: Replay) -> int:
    again = [failure for failure in failures if failure.key == (replay.subject.name, replay.check, replay.clause)]
    for failure in again:
        print(f"  {failure.message}")
        if failure.worst is not None:
            print(f"  worst    {worst_text(failure.clause, failure.worst)}")
    if not again:
        print("  it does not show any more")
    return FINDINGS if again else OK


def _failures(replay: Replay, spec: Spec, crew: Crew, subjects: tuple[Subject, ...]) -> list[Failure]:
    if replay.check in CASE_CHECKS:
        return _of_case(replay, spec, crew, subjects)
    lane = crew.lanes[replay.subject.lane]
    if replay.check == "signature":
        answer = lane.signature(replay.subject)
        return [] if isinstance(answer, Lost) else list(signature.check(spec, replay.subject, answer))
    assert replay.case is not None
    if replay.check == "arguments":
        found = [each for each in arguments.variations(spec, replay.case) if each.argument == replay.clause]
        found += arguments.turned(spec, replay.subject, found)
        outcomes = list(arguments.outcomes(partial(lane.call, spec, replay.subject), found))
        return list(arguments.check(spec, replay.subject, outcomes))
    if replay.check == "relations":
        call = partial(lane.call, spec, replay.subject)
        pairs = [each for each in related_calls.relations(spec, replay.case) if each.relation == replay.clause]
        return [failure for each in pairs for failure in relations.check(spec, replay.subject, call, each)]
    if replay.clause.startswith(aftermath.AFTER):
        return list(_aftermath(replay.subject, spec, lane, replay.case.configuration.dtype))
    (said,) = lane.attempt(spec, replay.subject, replay.case)
    print(f"  answer   {preconditions.said(said)}")
    violation = preconditions.violation_of(spec, replay.clause, replay.case.configuration)
    return list(preconditions.check(spec, replay.subject, violation, said, replay.case))


def _aftermath(subject: Subject, spec: Spec, lane: Lane, dtype: str) -> Iterator[Failure]:
    broken = aftermath.violations(spec, dtype, subject.lane)
    call, attempt = partial(lane.call, spec, subject), partial(lane.attempt, spec, subject)
    return aftermath.check(spec, subject, call, attempt, broken, dtype)


def _of_case(replay: Replay, spec: Spec, crew: Crew, subjects: tuple[Subject, ...]) -> list[Failure]:
    assert replay.case is not None
    gradient = replay.check == "gradients" or replay.clause == "gradients"
    (evidence,) = crew.evidence(spec, crew.present(subjects), [replay.case], gradient=gradient)
    if not isinstance(evidence, Evidence):
        raise ReplayError("the case is not a valid call any more")
    failures = list(CASE_CHECKS[replay.check](evidence))
    about = next((f for f in failures if f.clause == replay.clause), None)
    if about is not None:
        for shown in answers_at(evidence, about):
            print(f"  answer   {shown.subject}  {shown.text}")
    return failures
