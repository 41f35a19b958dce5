"""Runs a plan: draws cases, lets every lane answer them, judges, shrinks what fails, and tells subscribers about it.

    for each spec, each dtype, forward and backward:  drive -> Crew.evidence -> checks -> Records
    for each spec:                                    preconditions and signature, then its findings, shrunk
    at the end:                                       coverage, known deviations
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from attnspec.harness.cases import Case, Configuration, pool
from attnspec.harness.checks import CASE_CHECKS, coverage, preconditions, signature
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.failure import Failure, Key
from attnspec.harness.checks.preconditions import Violation
from attnspec.harness.crew import Crew, takes_all
from attnspec.harness.drive import derive, drive
from attnspec.harness.events import Finished, Found, Progress, Started, Subscriber
from attnspec.harness.findings import Finding, Replay, answers_at, case_text, size_of
from attnspec.harness.known_deviations import Ledger
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Job, Lane
from attnspec.harness.lanes.messages import Lost
from attnspec.harness.plan import COMPILED, Item, Plan
from attnspec.harness.shrink import smallest
from attnspec.harness.subjects import Subject
from attnspec.harness.tally import Tally


@dataclass
class Record:
    """All failures of one key: the smallest is kept, the rest are counted."""

    failure: Failure
    gradient: bool
    count: int = 0
    dtypes: set[str] = field(default_factory=set)

    def add(self, failure: Failure, gradient: bool) -> None:
        self.count += 1
        if failure.case is None:
            return
        self.dtypes.add(failure.case.configuration.dtype)
        if self.failure.case is not None and size_of(failure.case) < size_of(self.failure.case):
            self.failure, self.gradient = failure, gradient


class Conductor:
    """One run of one plan."""

    def __init__(self, plan: Plan, subscribers: Sequence[Subscriber] = ()) -> None:
        self._plan = plan
        self._subscribers = subscribers
        self._tally = Tally()
        self._records: dict[Key, Record] = {}
        self._findings: list[Finding] = []
        self._not_covered: list[str] = []
        self._errors: list[str] = []

    def run(self) -> Finished:
        """Everything in the plan; the last event is also returned."""
        started = time.monotonic()
        plan = self._plan
        lanes = [
            Lane(name, python=plan.interpreters.get(name), deadline=plan.deadline, memory=plan.memory)
            for name in plan.lanes
        ]
        with Crew(lanes) as crew:
            self._crew = crew
            self._open(crew)
            for item in plan.items:
                self._run_item(item)
        finished = self._finished(time.monotonic() - started)
        self._emit(finished)
        return finished

    def _emit(self, event: Started | Progress | Found | Finished) -> None:
        for subscriber in self._subscribers:
            subscriber(event)

    def _open(self, crew: Crew) -> None:
        plan = self._plan
        versions = {s.name: crew.version(s) for item in plan.items for s in crew.present(item.subjects)}
        self._ledger = Ledger(plan.deviations, versions, plan.checks)
        self._not_covered += [f"{lane}: {why}" for lane, why in crew.missing.items()]
        self._not_covered += [
            f"{item.spec.name}: no subject" for item in plan.items if not crew.present(item.subjects)
        ]
        by_lane = {name: lane.versions for name, lane in crew.lanes.items()}
        self._emit(Started(plan.seed, plan.profile.name, plan.checks, by_lane, tuple(self._not_covered)))

    # -- one spec -------------------------------------------------------------------------------------------------

    def _run_item(self, item: Item) -> None:
        subjects = self._crew.present(item.subjects)
        if not subjects:
            return
        for dtype in self._plan.dtypes:
            here = tuple(s for s in subjects if dtype in DTYPES[s.lane])
            if here:
                self._run_cases(item, here, dtype, gradient=False)
                self._run_cases(item, here, dtype, gradient=True)
        if "preconditions" in self._plan.checks:
            self._check_preconditions(item, subjects)
        if "signature" in self._plan.checks:
            self._check_signatures(item, subjects)
        self._report(item)

    def _run_cases(self, item: Item, subjects: Sequence[Subject], dtype: str, *, gradient: bool) -> None:
        profile = self._plan.profile
        total = profile.gradient_cases if gradient else profile.cases
        if total == 0 or (gradient and "gradients" not in self._plan.checks):
            return
        configurations = pool(item.spec, dtype, profile.pool)
        compiled = frozenset(configurations[: profile.compiled_pool])
        done = 0

        def takes(lane: str, configuration: Configuration) -> bool:
            return lane not in COMPILED or configuration in compiled

        def handle(batch: Sequence[Case]) -> None:
            nonlocal done
            for evidence in self._crew.evidence(item.spec, subjects, batch, gradient=gradient, takes=takes):
                self._judge(item, evidence)
            done += len(batch)
            self._emit(Progress(item.spec.name, dtype, gradient, done, total))

        drive(configurations, total, derive(self._plan.seed, item.spec.name, dtype, gradient), handle)
        self._crew.forget(configurations)

    def _judge(self, item: Item, evidence: Evidence | Case) -> None:
        if isinstance(evidence, Case):
            self._tally.add_invalid(item.spec, evidence.configuration)
            return
        self._tally.add(evidence)
        for check in self._case_checks(evidence.gradient):
            for subject in evidence.answers:
                self._ledger.tried(subject, check, item.spec, evidence.case.configuration)
            self._record(item, CASE_CHECKS[check](evidence), evidence.gradient)

    def _case_checks(self, gradient: bool) -> Iterator[str]:
        for name in self._plan.checks:
            if name in CASE_CHECKS and (gradient or name != "gradients"):
                yield name

    def _record(self, item: Item, failures: Iterable[Failure], gradient: bool = False) -> None:
        for failure in failures:
            if self._ledger.excuses(failure, item.spec):
                continue
            if failure.check == "pairwise" and (failure.subject, "oracle", failure.clause) in self._records:
                continue  # it follows from what is reported already
            self._records.setdefault(failure.key, Record(failure, gradient)).add(failure, gradient)

    def _check_preconditions(self, item: Item, subjects: Sequence[Subject]) -> None:
        """Every subject gets all invalid calls, in the first dtype of the plan that its lane has."""
        for dtype in self._plan.dtypes:
            here = tuple(s for s in subjects if self._first_dtype(s) == dtype)
            if not here:
                continue
            violations, unbroken = preconditions.violations(item.spec, dtype)
            self._errors += [f"{item.spec.name}: nothing was found that breaks `{clause}`" for clause in unbroken]
            for subject in here:
                self._try_violations(item, subject, violations)

    def _first_dtype(self, subject: Subject) -> str | None:
        preferred = sorted(self._plan.dtypes, key=lambda dtype: dtype != "float32")
        return next((dtype for dtype in preferred if dtype in DTYPES[subject.lane]), None)

    def _try_violations(self, item: Item, subject: Subject, violations: Sequence[Violation]) -> None:
        cases = tuple(Case(each.configuration, derive(self._plan.seed, each.clause)) for each in violations)
        answers = self._crew.lanes[subject.lane].run(Job(item.spec, (subject,), cases, attempt=True))
        for violation, case, (answer,) in zip(violations, cases, answers, strict=True):
            self._ledger.tried(subject.name, "preconditions", item.spec, violation.configuration, violation.clause)
            self._record(item, preconditions.check(item.spec, subject, violation, answer, case))

    def _check_signatures(self, item: Item, subjects: Sequence[Subject]) -> None:
        for subject in subjects:
            answer = self._crew.lanes[subject.lane].signature(subject)
            self._ledger.tried(subject.name, "signature", item.spec, None)
            if not isinstance(answer, Lost):
                self._record(item, signature.check(item.spec, subject, answer))

    # -- findings -------------------------------------------------------------------------------------------------

    def _report(self, item: Item) -> None:
        """Turn the records of one spec into findings, each shrunk and shown with everybody's answer."""
        for record in self._records.values():
            if record.failure.api != item.spec.name:
                continue
            finding = self._finding(item, record)
            self._findings.append(finding)
            self._emit(Found(finding))

    def _finding(self, item: Item, record: Record) -> Finding:
        failure, evidence = record.failure, None
        if failure.check in CASE_CHECKS and failure.case is not None:
            failure, evidence = self._shrunk(item, record)
        subject = next(s for s in item.subjects if s.name == failure.subject)
        replay = Replay(item.reference, subject, failure.check, failure.clause, failure.case, item.generated)
        cells = [cell for (spec, name, _), cell in self._tally.cells.items() if (spec, name) == (item.spec.name, subject.name)]
        tried = sum(cell.gradient_cases if record.gradient else cell.cases for cell in cells)
        return Finding(
            failure=failure,
            case=case_text(item.spec, failure.case) if failure.case else "",
            failing=record.count,
            cases=tried if evidence else 0,
            dtypes=tuple(sorted(record.dtypes)),
            versions=self._crew.lanes[subject.lane].versions,
            answers=answers_at(evidence, failure) if evidence else (),
            replay=f"attnspec replay {replay.to_token()}",
        )

    def _shrunk(self, item: Item, record: Record) -> tuple[Failure, Evidence | None]:
        """The record's failure in its smallest case, and what every lane says to that."""
        case = record.failure.case
        assert case is not None
        if self._failure_on(item, record, case) is not None:
            profile = self._plan.profile
            case = smallest(
                item.spec,
                case,
                lambda smaller: self._fails(item, record, smaller),
                seed=derive(self._plan.seed, *record.failure.key),
                seconds=profile.shrink_seconds,
                examples=profile.shrink_examples,
            )
        evidence = self._evidence(item, self._crew.present(item.subjects), case, record.gradient)
        found = self._matching(item, record, evidence) if evidence else None
        if found is None:
            unsteady = f"{record.failure.message}; it did not happen again"
            return replace(record.failure, message=unsteady), evidence
        return found, evidence

    def _fails(self, item: Item, record: Record, case: Case) -> bool:
        found = self._failure_on(item, record, case)
        self._crew.forget([case.configuration])
        return found is not None

    def _failure_on(self, item: Item, record: Record, case: Case) -> Failure | None:
        involved = self._crew.present(item.subjects)
        if record.failure.check != "pairwise":
            involved = tuple(s for s in involved if s.name == record.failure.subject)
        evidence = self._evidence(item, involved, case, record.gradient)
        return self._matching(item, record, evidence) if evidence else None

    def _evidence(self, item: Item, subjects: Sequence[Subject], case: Case, gradient: bool) -> Evidence | None:
        (evidence,) = self._crew.evidence(item.spec, subjects, [case], gradient=gradient, takes=takes_all)
        return evidence if isinstance(evidence, Evidence) else None

    def _matching(self, item: Item, record: Record, evidence: Evidence) -> Failure | None:
        """The failure of the record's key in `evidence`, unless a known deviation excuses it there."""
        for failure in CASE_CHECKS[record.failure.check](evidence):
            if failure.key == record.failure.key and not self._ledger.excuses(failure, item.spec):
                return failure
        return None

    # -- the end --------------------------------------------------------------------------------------------------

    def _finished(self, seconds: float) -> Finished:
        errors = self._errors + [f"known deviation no longer shows: {each}" for each in self._ledger.stale]
        if "coverage" in self._plan.checks:
            errors += [error for item in self._plan.items for error in coverage.check(item.spec, self._tally)]
        return Finished(
            seconds=seconds,
            tally=self._tally,
            findings=tuple(self._findings),
            deviations=Counter(self._ledger.seen),
            errors=tuple(errors),
            notes=tuple(f"known deviation was not tried: {each}" for each in self._ledger.untried),
            not_covered=tuple(self._not_covered),
        )
