"""Gathers the failures of one spec by subject, check and clause, and turns each gathering into one finding."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, zip_longest
from math import prod

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import pool
from attnspec.harness.causes.perturbations import Cause
from attnspec.harness.causes.search import Explanation, Witness, explain
from attnspec.harness.causes.stages import first_stage
from attnspec.harness.causes.witnesses import is_wrong, of_two_calls
from attnspec.harness.checks import CASE_CHECKS
from attnspec.harness.checks.drawn import quiet
from attnspec.harness.checks.evidence import Evidence, Part
from attnspec.harness.checks.failure import Failure, Key
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.crew import Crew
from attnspec.harness.drive import derive
from attnspec.harness.facts import facts
from attnspec.harness.findings import Finding, Replay, answers_at, case_text, size_of
from attnspec.harness.inputs import Inputs
from attnspec.harness.introduce import adapter_of
from attnspec.harness.known_deviations import Ledger
from attnspec.harness.lanes.messages import Returned
from attnspec.harness.mask_pictures import Picture, of_finding
from attnspec.harness.plan import COMPILED, Item, Plan
from attnspec.harness.profiles import masks_of, values_of
from attnspec.harness.scripts import script
from attnspec.harness.shrink import smallest
from attnspec.harness.subjects import Subject
from attnspec.harness.tally import Tally
from attnspec.spec.resolve import EvaluationError, ShapeMismatch, resolve

Given = tuple[Evidence, Inputs]
PARTS: Mapping[str, Part] = {"oracle": "outputs", "gradients": "gradients"}
MOST_LOGITS = 2**18  # of a user's own tensors, to find a cause from
WITNESSES = 6  # so many failing calls are enough to tell causes apart
FURTHER = 4  # more calls, where several causes fit the few that were made
KEPT = 4 * WITNESSES  # of each dtype, to choose from


@dataclass
class Record:
    """All failures of one key: the smallest is kept, a few calls to find the cause from, the rest are counted."""

    failure: Failure
    gradient: bool
    count: int = 0
    kinds: set[bool] = field(default_factory=set)  # in which cases it showed: those with gradients, the others, or both
    dtypes: dict[str, None] = field(default_factory=dict)  # in the order in which they came
    calls: dict[Configuration, Case] = field(default_factory=dict)
    given: Given | None = None  # where the failure's arrays are a user's own

    def add(self, failure: Failure, gradient: bool) -> None:
        """Count it, and keep it where it is the smallest."""
        self.count += 1
        self.kinds.add(gradient)
        if failure.case is None or self.failure.case is None:
            return
        self.dtypes[failure.case.configuration.dtype] = None
        if sum(each.dtype == failure.case.configuration.dtype for each in self.calls) < KEPT:
            self.calls.setdefault(failure.case.configuration, failure.case)
        if size_of(failure.case) < size_of(self.failure.case):
            self.failure, self.gradient, self.given = failure, gradient, None

    @property
    def telling(self) -> list[Case]:
        """A few of the calls, of each dtype as many: some faults are the same in one dtype and not in the other."""
        calls = [each for _, each in sorted(_ranked(self.calls.values()), key=lambda ranked: ranked[0])]
        by_dtype = [[each for each in calls if each.configuration.dtype == dtype] for dtype in self.dtypes]
        rows = chain.from_iterable(zip_longest(*by_dtype))
        return [case for case in rows if case is not None][:WITNESSES]


@dataclass
class Group:
    """The records of one cause: the first one, why, and what else shows it."""

    record: Record
    explanation: Explanation
    failed: Sequence[Witness]
    causes: set[Cause]
    also: list[Failure] = field(default_factory=list)

    def add(self, record: Record, found: Explanation, asked: int) -> None:
        """Another record of the same cause: of several, those that explain it too."""
        self.also.append(record.failure)
        self.causes.update(found.causes)
        shared = tuple(cause for cause in self.explanation.causes if cause in found.causes)
        if shared and found.cases == asked:
            self.explanation = replace(self.explanation, causes=shared)


class Recorder:
    """The failures of one spec's subjects."""

    def __init__(self, plan: Plan, item: Item, crew: Crew, ledger: Ledger, tally: Tally) -> None:
        self.item = item
        self._plan = plan
        self._crew = crew
        self._ledger = ledger
        self._tally = tally
        self._records: dict[Key, Record] = {}
        self._judged: dict[tuple[str, bool], dict[Configuration, Evidence]] = defaultdict(dict)  # by dtype and gradient
        self._wrong: set[tuple[str, str]] = set()  # subject and clause, where the oracle said so: excused or not
        self._excused: set[tuple[Case | None, str]] = set()  # where somebody is known to be apart from all others

    def add(self, failures: Iterable[Failure], gradient: bool = False) -> None:
        """Gather failures; known deviations are counted in the ledger instead."""
        for failure in failures:
            if failure.check in ("oracle", "gradients"):
                self._wrong.add((failure.subject, failure.clause))
            if self._ledger.excuses(failure, self.item.spec):
                self._excused.add((failure.case, failure.clause))
            elif not self._follows(failure):
                self._records.setdefault(failure.key, Record(failure, gradient)).add(failure, gradient)

    def keep(self, evidence: Evidence) -> None:
        """Of each dtype the first calls, no two of them equal but for their values: those that pass rule causes out."""
        kept = self._judged[evidence.case.configuration.dtype, evidence.gradient]
        if len(kept) < KEPT:
            kept.setdefault(evidence.case.configuration, evidence)

    def add_given(self, evidence: Evidence, inputs: Inputs, checks: Sequence[str]) -> None:
        """Gather what a user's own tensors show: a smaller call that shows the same will take their place."""
        for failure in (failure for check in checks for failure in CASE_CHECKS[check](evidence)):
            if not self._ledger.excuses(failure, self.item.spec) and failure.key not in self._records:
                record = Record(failure, evidence.gradient, given=(evidence, inputs))
                record.count, record.dtypes, record.kinds = 1, {inputs.case.configuration.dtype: None}, {evidence.gradient}
                self._records[failure.key] = record

    def _follows(self, failure: Failure) -> bool:
        """Whether it is the shadow of a failure that is known already: apart from others for being wrong."""
        if failure.check != "pairwise":
            return False
        return (failure.subject, failure.clause) in self._wrong or (failure.case, failure.clause) in self._excused

    @property
    def count(self) -> int:
        """How many findings there will be where none have a cause in common."""
        return len(self._records)

    @property
    def worst(self) -> float:
        """The largest error over bound of the failures that are kept."""
        return max((r.failure.worst.error_over_bound for r in self._records.values() if r.failure.worst), default=0.0)

    def findings(self) -> Iterator[Finding]:
        """One finding per cause, or per record that has none in common with others: shrunk, with everybody's answer."""
        groups: list[Group] = []
        for record in self._records.values():
            witnesses = self._witnesses(record)
            found = explain(self.item.spec, witnesses, self._passed(record.failure.subject, witnesses))
            if len(found.causes) > 1 and self._fails_further(record):
                witnesses = self._witnesses(record)
                found = explain(self.item.spec, witnesses, self._passed(record.failure.subject, witnesses))
            mine = [group for group in groups if group.record.failure.subject == record.failure.subject]
            group = next((group for group in mine if not group.causes.isdisjoint(found.causes)), None)
            if group is None and not found.causes and self._are_of_wrong_outputs(record.failure.clause, witnesses):
                group = next((group for group in mine if group.record.failure.check == "oracle"), None)
            if group is None:
                groups.append(Group(record, found, witnesses, set(found.causes)))
            else:
                group.add(record, found, len(witnesses))
        yield from map(self._of_group, groups)

    def _are_of_wrong_outputs(self, clause: str, witnesses: Sequence[Witness]) -> bool:
        """Whether what is wrong (gradients, an output) is so where other outputs are: what went before is enough to say why."""
        return bool(witnesses) and all(self._has_wrong_outputs(each, clause) for each in witnesses)

    def _has_wrong_outputs(self, witness: Witness, clause: str) -> bool:
        given = arrays(witness.case, self.item.spec) if witness.given is None else witness.given
        return is_wrong(self.item.spec, witness.case, given, witness.answer, "outputs", but=clause)

    def _of_group(self, group: Group) -> Finding:
        """Of what is silently ignored there is more to say than that it is dropped: it keeps its own words."""
        finding, found = self._finding(group.record), group.explanation
        if group.record.failure.check != "arguments":
            texts = tuple(cause.text for cause in found.causes)
            finding = replace(finding, causes=texts, explained=found.cases, asked=len(group.failed))
            if group.failed and not texts and finding.failure.case is not None:
                finding = replace(finding, stage=first_stage(self.item.spec, group.failed, finding.failure.case))
        pictures = tuple(self._pictures(finding, group))
        finding = replace(finding, also=tuple(_summary(group.also)), pictures=pictures)
        return replace(finding, script=self._script(finding))

    def _pictures(self, finding: Finding, group: Group) -> Iterator[Picture]:
        """The masks at the finding's own call, and at the largest of those that failed before it was shrunk."""
        case, failed = finding.failure.case, group.record.calls.values()
        if case is not None and finding.failure.check in (*CASE_CHECKS, "relations", "arguments"):
            case, largest = (quiet(self.item.spec, each) for each in (case, max(failed, key=size_of, default=case)))
            calls = [(case, finding.given), *([(largest, None)] if largest != case else [])]
            yield from of_finding(self.item.spec, calls, group.explanation.causes)

    def _witnesses(self, record: Record) -> list[Witness]:
        """Wrong answers of the subject, at a few of the calls that failed."""
        failure = record.failure
        if failure.check in ("relations", "arguments"):
            subject = next(subject for subject in self.item.subjects if subject.name == failure.subject)
            self._crew.pardon()
            call = partial(self._crew.lanes[subject.lane].call, self.item.spec, subject)
            return of_two_calls(failure.check, failure.clause, self.item.spec, call, record.telling)
        part = PARTS.get(record.failure.check)
        if part is None:
            return []
        subjects = tuple(subject for subject in self.item.subjects if subject.name == record.failure.subject)
        self._crew.pardon()
        judged = self._crew.evidence(self.item.spec, subjects, record.telling, gradient=part == "gradients")
        again = [evidence for evidence in judged if isinstance(evidence, Evidence) and self._matching(record, evidence)]
        self._crew.forget([case.configuration for case in record.telling])
        made = [(evidence, None) for evidence in again]
        own = [(record.given[0], record.given[1].given)] if record.given and _is_small(record.given[1].case) else []
        asked = [(each.case, each.answers[record.failure.subject], given) for each, given in (*made, *own)]
        return [Witness(case, answer, part, given) for case, answer, given in asked if isinstance(answer, Returned)]

    def _fails_further(self, record: Record) -> bool:
        """Whether a few calls of the pool fail too that a lane was spared, for it compiles them: they tell causes apart."""
        subject = next(subject for subject in self.item.subjects if subject.name == record.failure.subject)
        if record.failure.check not in PARTS or subject.lane not in COMPILED or len(record.calls) >= WITNESSES:
            return False
        dtype, count = next(iter(record.dtypes)), len(record.calls)
        left = [each for each in pool(self.item.spec, dtype, self._plan.profile.pool) if each not in record.calls]
        cases = [Case(each, derive(self._plan.seed, number)) for number, each in enumerate(left[:: -(-len(left) // FURTHER)])]
        self._crew.pardon()
        for evidence in self._crew.evidence(self.item.spec, (subject,), cases, gradient=record.gradient):
            if isinstance(evidence, Evidence) and self._matching(record, evidence):
                record.calls[evidence.case.configuration] = evidence.case
        return len(record.calls) > count

    def _passed(self, subject: str, failed: Sequence[Witness]) -> list[Witness]:
        """Right answers of the subject in the parts and dtypes that failed elsewhere."""
        found = []
        for part, dtype in sorted({(each.part, each.case.configuration.dtype) for each in failed}):
            for evidence in self._judged[dtype, part == "gradients"].values():
                answer = evidence.answers.get(subject)
                if isinstance(answer, Returned) and not evidence.verdict.ill_conditioned and evidence.agrees(subject, part):
                    found.append(Witness(evidence.case, answer, part))
        return found

    def _finding(self, record: Record) -> Finding:
        failure, evidence = record.failure, record.given[0] if record.given else None
        if evidence is None and failure.check in CASE_CHECKS and failure.case is not None:
            failure, evidence = self._shrunk(record, failure.case)
        subject = next(s for s in self.item.subjects if s.name == failure.subject)
        place = self.item.generated, self._plan.interpreters.get(subject.lane, "")
        replay = Replay(self.item.reference, subject, failure.check, failure.clause, failure.case, *place)
        return Finding(
            failure=failure,
            case=case_text(self.item.spec, failure.case) if failure.case else "",
            failing=record.count,
            cases=self._cases(subject, record.kinds) if evidence else 0,
            dtypes=tuple(sorted(record.dtypes)),
            versions=self._crew.lanes[subject.lane].versions,
            answers=answers_at(evidence, failure) if evidence else (),
            replay=f"attnspec check {subject.name} --as {failure.api} {record.given[1].options}"
            if record.given
            else f"attnspec replay {replay.to_token()}",
            given=record.given[1].given if record.given else None,
            path=self._path(failure.case),
        )

    def _script(self, finding: Finding) -> str:
        subject = next(s for s in self.item.subjects if s.name == finding.failure.subject)
        about = f"{finding.title} ({', '.join(f'{name} {version}' for name, version in finding.versions.items())})"
        adapter = adapter_of(self._crew.lanes[subject.lane], subject)
        return script(self.item.spec, subject, finding.failure, about, adapter, finding.given)

    def _path(self, case: Case | None) -> str:
        """The path that the call takes; an invalid one takes none."""
        try:
            return resolve(self.item.spec, facts(self.item.spec, case.configuration)).path.name if case else ""
        except (ShapeMismatch, EvaluationError):
            return ""

    def _cases(self, subject: Subject, kinds: Set[bool]) -> int:
        """How many cases the subject was given, of the kinds that failed."""
        cells = [cell for (_, name, _), cell in self._tally.cells.items() if name == subject.name]
        return sum(cell.gradient_cases if kind else cell.cases for cell in cells for kind in kinds)

    def _shrunk(self, record: Record, case: Case) -> tuple[Failure, Evidence | None]:
        """The record's failure in its smallest case, and what every lane says to that."""
        if self._fails(record, case):
            case = smallest(
                self.item.spec,
                case,
                lambda smaller: self._fails(record, smaller),
                seed=derive(self._plan.seed, *record.failure.key),
                seconds=self._plan.profile.shrink_seconds,
                examples=self._plan.profile.shrink_examples,
            )
        evidence = self._evidence(self._crew.present(self.item.subjects), case, record.gradient)
        found = self._matching(record, evidence) if evidence else None
        if found is None:
            found = replace(record.failure, message=f"{record.failure.message}; it did not happen again")
        return found, evidence

    def _fails(self, record: Record, case: Case) -> bool:
        involved = self._crew.present(self.item.subjects)
        if record.failure.check != "pairwise":
            involved = tuple(s for s in involved if s.name == record.failure.subject)
        evidence = self._evidence(involved, case, record.gradient)
        self._crew.forget([case.configuration])
        return evidence is not None and self._matching(record, evidence) is not None

    def _evidence(self, subjects: Sequence[Subject], case: Case, gradient: bool) -> Evidence | None:
        self._crew.pardon()
        (evidence,) = self._crew.evidence(self.item.spec, subjects, [case], gradient=gradient)
        return evidence if isinstance(evidence, Evidence) else None

    def _matching(self, record: Record, evidence: Evidence) -> Failure | None:
        """The failure of the record's key in `evidence`, unless a known deviation excuses it there."""
        for failure in CASE_CHECKS[record.failure.check](evidence):
            if failure.key == record.failure.key and not self._ledger.excuses(failure, self.item.spec):
                return failure
        return None


def _ranked(cases: Iterable[Case]) -> Iterator[tuple[int, Case]]:
    """Each case after how many others of its dtype with such values or masks: calls that are alike show faults alike."""
    seen = Counter[tuple[str, str]]()
    for case in cases:
        dtype = case.configuration.dtype
        kinds = (dtype, values_of(case.seed, False).name), (dtype, masks_of(case.seed).name)
        yield max(seen[kind] for kind in kinds), case
        seen.update(kinds)


def _is_small(case: Case) -> bool:
    """Whether the call can be judged under every perturbation of its spec."""
    return prod(size for letter, size in case.configuration.sizes if letter in "BNTS") <= MOST_LOGITS


def _summary(failures: Sequence[Failure]) -> Iterator[str]:
    """What other checks saw of a cause, a line for each check."""
    for check in dict.fromkeys(failure.check for failure in failures):
        clauses = dict.fromkeys(failure.clause for failure in failures if failure.check == check)
        if check == "arguments":
            yield from (f"{check}: {failure.message}" for failure in failures if failure.check == check)
        else:
            yield f"{check}: {', '.join(f'`{clause}`' for clause in clauses)}"
