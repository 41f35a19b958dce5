"""One user's function, clause by clause: the cases in which a clause shows, and what they find. For tests in a user's suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache

from attnspec.harness import visible_changes
from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, Configuration, pool
from attnspec.harness.checks import CASE_CHECKS
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.signature import NOT_OFFERED
from attnspec.harness.conductor import Conductor
from attnspec.harness.crew import Crew
from attnspec.harness.drive import derive
from attnspec.harness.facts import facts
from attnspec.harness.findings import Finding
from attnspec.harness.introduce import introduced
from attnspec.harness.known_deviations import Ledger
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.plan import COMPILED, Plan
from attnspec.harness.pool import Factors, configuration
from attnspec.harness.recorder import Recorder
from attnspec.harness.sizes import SHAPES
from attnspec.harness.subjects import SubjectError
from attnspec.harness.tally import Tally
from attnspec.spec.model import Spec
from attnspec.spec.resolve import resolve

EMPTY_ROW = "empty_row"
TOGETHER = "together"  # whatever calls combine
WHOLE = ("arguments", "preconditions", "signature")  # checks that choose their own calls
TRIES = 8  # cases drawn for each that is wanted: a clause need not show in all of them


def clauses(spec: Spec) -> tuple[str, ...]:
    """What a test can be about: each stage, the rule for empty rows, all together, the arguments. No oracle judges dropout."""
    stages = [stage for path in spec.paths for stage in path.stages if stage.kind != "dropout"]
    empty = [EMPTY_ROW] if any(stage.kind == "mask" for stage in stages) else []
    return tuple(dict.fromkeys([*(stage.clause for stage in stages), *empty, TOGETHER, "arguments"]))


class Conformance:
    """A user's function in an open lane. Raises SubjectError where there is none."""

    def __init__(self, plan: Plan) -> None:
        self._stack = ExitStack()
        lanes = [Lane(name, python=plan.interpreters.get(name), deadline=plan.deadline) for name in plan.lanes]
        self._crew = self._stack.enter_context(Crew(lanes))
        for lane, why in self._crew.missing.items():
            self.close()
            raise SubjectError(f"{lane}: {why}")
        (item,) = plan.items
        self._plan, self._asked = plan, item
        self._item = introduced(item, self._crew)
        (self._subject,) = self._item.subjects

    def close(self) -> None:
        """End the lane."""
        self._stack.close()

    def lacks(self, clause: str, dtype: str) -> str:
        """Why there is nothing to test, or nothing."""
        if dtype not in DTYPES[self._subject.lane]:
            return f"{self._subject.lane} has no {dtype}"
        if dtype not in self._item.dtypes:
            return f"{self._subject.name} does not offer {dtype}"
        if clause not in WHOLE and not self._configurations(clause, dtype):
            lacking = [argument.name for argument in self._item.spec.arguments if argument.inert == NOT_OFFERED]
            return f"{self._subject.name} does not offer {', '.join(lacking)}: no call has {clause}"
        return ""

    def findings(self, clause: str, dtype: str) -> tuple[Finding, ...]:
        """What the clause's cases find. Gradients are asked about once the outputs are right."""
        if clause in WHOLE:
            profile = replace(self._plan.profile, cases=0, gradient_cases=0)
            plan = replace(self._plan, items=(self._asked,), profile=profile, checks=(clause,), dtypes=(dtype,))
            return Conductor(plan).run(self._crew).findings
        cases = list(self._cases(clause, dtype))
        forward = self._found(cases, ("answers", "oracle"), gradient=False)
        return forward or self._found(cases, ("answers", "gradients"), gradient=True)

    def _found(self, cases: Sequence[Case], checks: Sequence[str], *, gradient: bool) -> tuple[Finding, ...]:
        tally = Tally()
        recorder = Recorder(self._plan, self._item, self._crew, Ledger((), {}, ()), tally)
        self._crew.pardon()
        for evidence in self._crew.evidence(self._item.spec, self._item.subjects, cases, gradient=gradient):
            if isinstance(evidence, Evidence):
                tally.add(evidence)
                recorder.keep(evidence)
                for check in checks:
                    recorder.add(CASE_CHECKS[check](evidence), gradient)
        return tuple(recorder.findings())

    def _configurations(self, clause: str, dtype: str) -> tuple[Configuration, ...]:
        """Calls that have the clause. For a lane that compiles each of them, as few as a short run has."""
        spec, profile = self._item.spec, self._plan.profile
        many = profile.compiled_gradient_pool if self._subject.lane in COMPILED else profile.pool
        return (pool(spec, dtype, profile.pool) if clause == TOGETHER else calls(spec, dtype, clause))[:many]

    def _cases(self, clause: str, dtype: str) -> Iterator[Case]:
        """As many cases as the profile says in which a fault of the clause would show."""
        configurations, left = self._configurations(clause, dtype), self._plan.profile.cases
        for number in range(TRIES * left):
            seed = derive(self._plan.seed, clause, dtype, number)
            case = Case(configurations[number % len(configurations)], seed)
            if left and shows(self._item.spec, case, clause):
                left -= 1
                yield case


@lru_cache(maxsize=256)
def _calls(spec_id: int, dtype: str, clause: str) -> tuple[Configuration, ...]:
    factors = Factors.of(_SPECS[spec_id], dtype)
    choices = [{}, *factors.alone()]
    found: dict[Configuration, None] = {}
    for sizes in SHAPES:
        made = (configuration(factors, sizes, {**factors.simplest(), **choice}) for choice in choices)
        having = [each for each in made if each is not None and has(factors.spec, each, clause)]
        fewest = min((_others(factors.spec, each, clause) for each in having), default=0)
        plainest = [each for each in having if _others(factors.spec, each, clause) == fewest]
        if plainest:  # another choice at every size
            found.setdefault(plainest[len(found) % len(plainest)])
    return tuple(found)


def _others(spec: Spec, configuration: Configuration, clause: str) -> int:
    """How many more stages the call has that a call need not have."""
    return sum(stage.when is not None and stage.clause != clause for stage in resolve(spec, facts(spec, configuration)).stages)


_SPECS: dict[int, Spec] = {}


def calls(spec: Spec, dtype: str, clause: str) -> tuple[Configuration, ...]:
    """Calls that have the clause, and nothing else that a call need not have, at all sizes."""
    _SPECS[id(spec)] = spec
    return _calls(id(spec), dtype, clause)


def has(spec: Spec, configuration: Configuration, clause: str) -> bool:
    """Whether the clause holds for the call; the rule for empty rows is asked for wherever something hides keys."""
    stages = resolve(spec, facts(spec, configuration)).stages
    return any(stage.clause == clause or (clause == EMPTY_ROW and stage.kind == "mask") for stage in stages)


def shows(spec: Spec, case: Case, clause: str) -> bool:
    """Whether a subject without the clause would be outside some bound. A score or softmax always shows."""
    name = "other empty row" if clause == EMPTY_ROW else f"{clause} dropped"
    changes = dict(visible_changes.changes(spec, case.configuration))
    if name not in changes:
        return True
    return visible_changes.is_visible(spec, case, arrays(case, spec), changes[name])
