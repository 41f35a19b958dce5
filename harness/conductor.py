"""Runs a plan: draws cases, lets every lane answer them, judges, shrinks what fails, and tells subscribers about it.

for each spec, each dtype, forward and backward:  drive -> Crew.evidence -> checks -> Records
for each spec, each dtype:                        the arguments and relations checks
for each spec:                                    preconditions and signature, then its findings, shrunk
at the end:                                       coverage, known deviations
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

from attnspec.harness.cases import Case, Configuration, large, pool
from attnspec.harness.checks import (
    CASE_CHECKS,
    aftermath,
    arguments,
    coverage,
    drawn,
    dropout,
    preconditions,
    related_calls,
    relations,
    second_order,
    signature,
    stacked,
)
from attnspec.harness.checks.answers import is_refusal
from attnspec.harness.checks.arguments import Outcome
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure
from attnspec.harness.checks.preconditions import Violation
from attnspec.harness.checks.setting import Related
from attnspec.harness.checks.variation import Variation
from attnspec.harness.course import Course
from attnspec.harness.crew import Crew
from attnspec.harness.drive import derive, drive
from attnspec.harness.events import Finished, Found, Progress, Started, Subscriber
from attnspec.harness.findings import Finding
from attnspec.harness.inputs import Inputs
from attnspec.harness.introduce import introduced
from attnspec.harness.kept import Kept, KeptError, read, run_of, write
from attnspec.harness.known_deviations import Ledger
from attnspec.harness.lanes.framework import DTYPES, FORWARD_ONLY
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Answer, Lost
from attnspec.harness.once import Once
from attnspec.harness.oracle import judge
from attnspec.harness.plan import COMPILED, FIRST, Item, Plan
from attnspec.harness.recorder import Recorder
from attnspec.harness.subjects import Subject
from attnspec.harness.tally import Tally
from attnspec.spec.model import Spec

T = TypeVar("T")
SLOW_TO_TURN = ("torch",)  # its compiler takes seconds to import
FEW = 4  # one in so many calls is enough where each is compiled


def _lanes(plan: Plan) -> list[Lane]:
    """The lanes that the plan starts. A short run compiles in haste: who waits for it wants a first verdict."""
    lane = partial(Lane, deadline=plan.deadline, memory=plan.memory, hasty=plan.profile.is_short)
    return [lane(name, python=plan.interpreters.get(name)) for name in plan.lanes]


class Conductor:
    """One run of one plan."""

    def __init__(self, plan: Plan, subscribers: Sequence[Subscriber] = ()) -> None:
        self._plan = plan
        self._subscribers = subscribers
        self._tally = Tally()
        self._findings: list[Finding] = []
        self._not_covered: list[str] = []
        self._errors: list[str] = []
        self._unbroken: list[str] = []  # preconditions that no call was found to break
        self._began = time.monotonic()
        self._called = False  # whether there was anybody to check: a run of nothing is no pass

    def run(self, opened: Crew | None = None) -> Finished:
        """Everything in the plan, in lanes of its own where none are open; the last event is also returned."""
        plan = self._plan
        with nullcontext(opened) if opened else Crew(_lanes(plan)) as crew:
            self._crew = crew
            self._plan = replace(plan, items=tuple(introduced(item, crew) for item in plan.items))
            self._open(crew)
            self._run_items()
            self._errors += [f"{name}: {lane.gone}" for name, lane in crew.lanes.items() if lane.gone]
        finished = self._finished()
        self._emit(finished)
        return finished

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _emit(self, event: Started | Progress | Found | Finished) -> None:
        for subscriber in self._subscribers:
            subscriber(event)

    def _open(self, crew: Crew) -> None:
        plan = self._plan
        versions = {s.name: crew.version(s) for item in plan.items for s in crew.present(item.subjects)}
        self._ledger = Ledger(plan.deviations, versions, plan.checks)
        self._not_covered += [f"{lane}: {why}" for lane, why in crew.missing.items()]
        if os.environ.get("CI"):  # there the set-up installs it: that it is missing is a fault
            self._errors += [f"{lane}: {why}" for lane, why in crew.missing.items() if lane == "r"]
        self._not_covered += [f"{item.spec.name}: no subject" for item in plan.items if not crew.present(item.subjects)]
        by_lane = {name: lane.versions for name, lane in crew.lanes.items()}
        about = tuple(self._not_covered), plan.items, crew.missing, plan.command
        self._emit(Started(plan.seed, plan.profile.name, plan.checks, by_lane, *about))

    # -- all specs, in one go or in several -----------------------------------------------------------------------

    def _run_items(self) -> None:
        """Every spec that is not done yet. One during which a lane was lost for good is to be done again."""
        kept = self._recalled()
        left = [item for item in self._plan.items if item.reference not in kept.done]
        self._course = Course(sum(self._planned(item) for item in left))
        for item in left:
            self._run_item(item)
            if not any(lane.gone for lane in self._crew.lanes.values()):
                kept = self._kept(kept, item)
                self._keep(kept)

    def _recalled(self) -> Kept:
        """What is done of this run, as it was left."""
        run = run_of(self._plan, {name: lane.versions for name, lane in self._crew.lanes.items()})
        kept = read(self._plan.state) if self._plan.state else None
        kept = kept or Kept(run, self._plan.seed)
        if kept.run != run:
            raise KeptError(f"{self._plan.state}: is of a run with another seed, other specs, options or versions")
        self._keep(kept)
        self._began -= kept.seconds
        self._tally.merge(kept.tally)
        self._ledger.remember(kept.seen, kept.tried)
        self._unbroken += kept.errors
        self._called = bool(kept.done)
        for finding in kept.findings:
            self._found(finding)
        return kept

    def _keep(self, kept: Kept) -> None:
        if self._plan.state:
            write(self._plan.state, kept)

    def _kept(self, before: Kept, item: Item) -> Kept:
        """The run as it is after one spec more."""
        return Kept(
            run=before.run,
            seed=before.seed,
            seconds=self._seconds,
            done=(*before.done, item.reference),
            findings=tuple(self._findings),
            errors=tuple(self._unbroken),
            seen=self._ledger.seen,
            tried=self._ledger.looked_for,
            tally=self._tally,
        )

    # -- one spec -------------------------------------------------------------------------------------------------

    def _run_item(self, item: Item) -> None:
        subjects = self._crew.present(item.subjects)
        if not subjects:
            return
        self._called = True
        recorder = Recorder(self._plan, item, self._crew, self._ledger, self._tally)
        for inputs in self._plan.inputs:
            self._check_inputs(recorder, subjects, inputs)
        for dtype in (dtype for dtype in self._plan.dtypes if dtype in item.dtypes):
            here = tuple(s for s in subjects if dtype in DTYPES[s.lane])
            if here:
                self._run_cases(recorder, here, dtype, gradient=False)
                self._run_cases(recorder, [s for s in here if s.lane not in FORWARD_ONLY], dtype, gradient=True)
                self._check_arguments(recorder, here, dtype)
                self._check_relations(recorder, here, dtype)
                self._crew.forget((*pool(item.spec, dtype, self._plan.profile.pool), *large(item.spec, dtype)))
        if "preconditions" in self._plan.checks:
            self._check_preconditions(recorder, subjects)
        if "signature" in self._plan.checks:
            self._check_signatures(recorder, subjects)
        for finding in recorder.findings():
            self._found(finding)

    def _found(self, finding: Finding) -> None:
        self._findings.append(finding)
        self._emit(Found(finding))

    def _planned(self, item: Item) -> int:
        """How many cases an item has, forward and with gradients."""
        profile, subjects = self._plan.profile, self._crew.present(item.subjects)
        lanes = [{s.lane for s in subjects if dtype in DTYPES[s.lane]} for dtype in self._plan.dtypes if dtype in item.dtypes]
        gradient_cases = profile.gradient_cases if "gradients" in self._plan.checks else 0
        return sum(profile.cases * bool(here) + gradient_cases * bool(here - {*FORWARD_ONLY}) for here in lanes)

    def _progress(self, recorder: Recorder, dtype: str, gradient: bool, done: int, total: int) -> Progress:
        worst, found = max(self._tally.nearest, recorder.worst), len(self._findings) + recorder.count
        so_far = self._crew.pace, worst, found, self._course.left
        return Progress(recorder.item.spec.name, dtype, gradient, done, total, *so_far)

    def _check_inputs(self, recorder: Recorder, subjects: Sequence[Subject], inputs: Inputs) -> None:
        """A user's own tensors, forward and backward."""
        spec, configuration = recorder.item.spec, inputs.case.configuration
        mine = [subject for subject in subjects if configuration.dtype in DTYPES[subject.lane]]
        self._not_covered += [
            f"{s.name}: {s.lane} has no {configuration.dtype} ({inputs.file})" for s in subjects if s not in mine
        ]
        for gradient in (False, True) if "gradients" in self._plan.checks else (False,):
            asked = [subject for subject in mine if not gradient or subject.lane not in FORWARD_ONLY]
            calls = {s.name: partial(self._call_of(spec, s), configuration, inputs.given, gradient=gradient) for s in asked}
            answers = {name: call() for name, call in calls.items()}
            evidence = Evidence(spec, inputs.case, judge(spec, inputs.case, inputs.given, gradient), answers, gradient)
            self._tally.add(evidence)
            recorder.add_given(evidence, inputs, list(self._case_checks(gradient)))
            if evidence.verdict.ill_conditioned:
                self._not_covered.append(f"{inputs.file}: ill-conditioned: the error bound says nothing about it")
            self._not_covered += [f"{inputs.file}: {name} refuses it: {a}" for name, a in answers.items() if is_refusal(a)]

    def _run_cases(self, recorder: Recorder, subjects: Sequence[Subject], dtype: str, *, gradient: bool) -> None:
        item = recorder.item
        profile = self._plan.profile
        total = profile.gradient_cases if gradient else profile.cases
        if total == 0 or not subjects or (gradient and "gradients" not in self._plan.checks):
            return
        configurations = pool(item.spec, dtype, profile.pool)
        size = profile.compiled_gradient_pool if gradient else profile.compiled_pool
        turned = {lane: (*configurations[FIRST.get(lane, 0) :], *configurations[: FIRST.get(lane, 0)]) for lane in COMPILED}
        compiled = {lane: frozenset(turned[lane][: -(-size // part)]) for lane, part in COMPILED.items()}
        done = 0

        def takes(lane: str, configuration: Configuration) -> bool:
            return lane not in compiled or configuration in compiled[lane]

        def handle(batch: Sequence[Case]) -> None:
            nonlocal done
            for evidence in self._crew.evidence(item.spec, subjects, batch, gradient=gradient, takes=takes):
                self._judge(recorder, evidence)
            done += len(batch)
            self._course.add(len(batch))
            self._emit(self._progress(recorder, dtype, gradient, done, total))

        self._crew.pardon()
        tried = (*configurations, *large(item.spec, dtype))
        if not profile.is_short:  # there a lane that takes long over each is asked about few of the cases
            tried = tuple(each for each in tried if any(takes(subject.lane, each) for subject in subjects))
        drive(tried, total, derive(self._plan.seed, item.spec.name, dtype, gradient), handle)

    def _judge(self, recorder: Recorder, evidence: Evidence | Case) -> None:
        item = recorder.item
        if isinstance(evidence, Case):
            self._tally.add_invalid(item.spec, evidence.configuration)
            return
        self._tally.add(evidence)
        recorder.keep(evidence)
        for check in self._case_checks(evidence.gradient):
            for subject in evidence.answers:
                self._ledger.tried(subject, check, item.spec, evidence.case.configuration)
            recorder.add(CASE_CHECKS[check](evidence), evidence.gradient)

    def _case_checks(self, gradient: bool) -> Iterator[str]:
        for name in self._plan.checks:
            if name in CASE_CHECKS and (gradient or name != "gradients"):
                yield name

    def _check_arguments(self, recorder: Recorder, subjects: Sequence[Subject], dtype: str) -> None:
        """Every call twice, with one argument given in another way."""
        spec = recorder.item.spec
        if "arguments" not in self._plan.checks:
            return

        variations: Once[Case, list[Variation]] = Once(lambda case: list(arguments.variations(spec, case)))

        def outcomes(subject: Subject) -> list[Outcome]:
            varied = [each for case in self._varied(spec, subject, dtype) for each in variations(case)]
            return list(arguments.outcomes(self._call_of(spec, subject), self._taken(spec, subject, dtype, varied)))

        for subject, found in self._side_by_side(subjects, outcomes):
            for outcome in found:
                self._ledger.tried(subject.name, "arguments", spec, outcome.case.configuration, outcome.argument)
            self._tally.add_outcomes(spec, subject.name, found)
            recorder.add(arguments.check(spec, subject, found))

    def _check_relations(self, recorder: Recorder, subjects: Sequence[Subject], dtype: str) -> None:
        """Pairs of calls that must give the same."""
        spec = recorder.item.spec
        if "relations" not in self._plan.checks:
            return

        pairs: Once[Case, list[Related]] = Once(lambda case: list(related_calls.relations(spec, case)))

        def broken(subject: Subject) -> list[tuple[Related, list[Failure]]]:
            call, cases = self._call_of(spec, subject), self._varied(spec, subject, dtype)
            compiles = subject.lane in COMPILED
            spared = compiles and self._plan.profile.is_short
            left_out = {*stacked.NAMES, dropout.MASK, dropout.SEEDED} if spared else set()  # each compiles something of its own
            left_out |= {second_order.NAME} if self._is_spared(subject) else set()  # four gradients of the oracle's
            taken = (each for case in cases[:: FEW if compiles else 1] for each in pairs(case))
            first = relations.First(call)
            return [(r, list(relations.check(spec, subject, call, r, first))) for r in taken if r.relation not in left_out]

        for subject, found in self._side_by_side(subjects, broken):
            for related, failures in found:
                self._ledger.tried(subject.name, "relations", spec, related.case.configuration, related.relation)
                recorder.add(failures)

    def _side_by_side(self, subjects: Sequence[Subject], ask: Callable[[Subject], T]) -> list[tuple[Subject, T]]:
        """What every subject answers, in their order: lanes work at the same time, a lane's own subjects one by one."""
        self._crew.pardon()
        lanes = list(dict.fromkeys(subject.lane for subject in subjects))
        by_lane = [[subject for subject in subjects if subject.lane == lane] for lane in lanes]
        with ThreadPoolExecutor(max(1, len(lanes))) as threads:
            rows = threads.map(lambda mine: [(subject.name, ask(subject)) for subject in mine], by_lane)
            answers = dict(chain.from_iterable(rows))
        return [(subject, answers[subject.name]) for subject in subjects]

    def _call_of(self, spec: Spec, subject: Subject) -> partial[Answer]:
        return partial(self._crew.lanes[subject.lane].call, spec, subject)

    def _varied(self, spec: Spec, subject: Subject, dtype: str) -> list[Case]:
        """The calls in which one argument is given, or two.

        A user's function gets all of them. In a short run the others get single arguments in float32, and so does a lane
        that compiles each call anew.
        """
        alone, both = arguments.cases(spec, dtype)
        is_spared = self._is_spared(subject)
        if is_spared and dtype != "float32":
            return []
        return alone if subject.lane in COMPILED or is_spared else [*alone, *both]

    def _taken(self, spec: Spec, subject: Subject, dtype: str, varied: Sequence[Variation]) -> Iterator[Variation]:
        """All variations; in a short run of what is built in, or compiled, few of those that share their call with no other."""
        spared = self._is_spared(subject)
        yield from arguments.spared(spec, varied, subject.lane in COMPILED) if spared else varied
        yield from () if spared else drawn.under_dropout(spec, varied)
        is_slow = self._plan.profile.is_short and subject.lane in SLOW_TO_TURN
        if subject.is_brought and dtype == "float32" and not is_slow:
            yield from arguments.turned(spec, subject, varied)

    def _is_spared(self, subject: Subject) -> bool:
        return self._plan.profile.is_short and (subject.lane in COMPILED or not subject.is_brought)

    def _check_preconditions(self, recorder: Recorder, subjects: Sequence[Subject]) -> None:
        """Every subject gets all invalid calls, in float32 whatever the plan's dtypes: every lane has it."""
        dtypes = recorder.item.dtypes
        dtype = "float32" if "float32" in dtypes else dtypes[0]
        violations, unbroken = preconditions.violations(recorder.item.spec, dtype)
        self._unbroken += [f"{recorder.item.spec.name}: nothing was found that breaks `{clause}`" for clause in unbroken]

        for subject in (each for each in subjects if not self._is_spared(each)):
            recorder.add(self._aftermath(recorder.item.spec, subject, dtype))

        def attempt(subject: Subject) -> list[tuple[Violation, Case, Answer]]:
            mine = [each for each in violations if preconditions.is_invalid(each, recorder.item.spec, subject.lane)]
            return self._attempts(recorder.item.spec, subject, mine)

        for subject, tried in self._side_by_side(subjects, attempt):
            for violation, case, answer in tried:
                spec = recorder.item.spec
                self._ledger.tried(subject.name, "preconditions", spec, violation.configuration, violation.clause)
                recorder.add(preconditions.check(spec, subject, violation, answer, case))

    def _aftermath(self, spec: Spec, subject: Subject, dtype: str) -> Iterator[Failure]:
        """Valid calls after invalid ones, the first that it gets."""
        lane = self._crew.lanes[subject.lane]
        broken = aftermath.violations(spec, dtype, subject.lane)
        return aftermath.check(spec, subject, self._call_of(spec, subject), partial(lane.attempt, spec, subject), broken, dtype)

    def _attempts(self, spec: Spec, subject: Subject, violations: Sequence[Violation]) -> list[tuple[Violation, Case, Answer]]:
        cases = tuple(Case(each.configuration, derive(self._plan.seed, each.clause)) for each in violations)
        answers = self._crew.lanes[subject.lane].attempt(spec, subject, *cases)
        return list(zip(violations, cases, answers, strict=True))

    def _check_signatures(self, recorder: Recorder, subjects: Sequence[Subject]) -> None:
        item = recorder.item
        for subject in subjects:
            answer = self._crew.lanes[subject.lane].signature(subject)
            self._ledger.tried(subject.name, "signature", item.spec, None)
            if not isinstance(answer, Lost):
                recorder.add(signature.check(item.spec, subject, answer))

    # -- the end --------------------------------------------------------------------------------------------------

    def _finished(self) -> Finished:
        errors = [*self._errors, *self._unbroken]
        errors += [f"known deviation no longer shows: {each}" for each in self._ledger.stale]
        if not self._called:
            errors.append("nothing was checked")
        if "coverage" in self._plan.checks:
            errors += [error for item in self._plan.items for error in coverage.check(item.spec, self._tally)]
        return Finished(
            seconds=self._seconds,
            tally=self._tally,
            findings=tuple(self._findings),
            deviations=Counter(self._ledger.seen),
            errors=tuple(errors),
            notes=tuple(f"known deviation was not tried: {each}" for each in self._ledger.untried),
            not_covered=tuple(self._not_covered),
        )
