"""Counts of a run: cases, worst error over bound, what each argument took, and the cases that judged nobody.

Everything here merges, so that long runs can be resumed and reporters can show any cut.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.arguments import Outcome, worst_status
from attnspec.harness.checks.evidence import Evidence, Part
from attnspec.harness.configuration import Configuration
from attnspec.harness.findings import case_text
from attnspec.harness.visible_changes import is_vacuous
from attnspec.spec.model import Argument, Spec

NOT_GIVEN = "None"
EDGES = tuple(2.0**power for power in range(-10, 4))
"""Cases are counted by their largest error over bound between powers of two; beyond the last one infinity is too."""
SAMPLED = 7  # one case in so many is looked at for being vacuous: that takes a judgement for each change of the spec


@dataclass
class Ratios:
    """The largest errors over bound of the cases that were judged: the worst of all with its call, and how many lay where."""

    worst: float = 0.0
    call: str = ""
    counts: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))

    def add(self, ratio: float, evidence: Evidence) -> None:
        """Count a case by its largest error over bound."""
        self.counts[bisect_left(EDGES, ratio)] += 1
        if ratio > self.worst:
            self.worst, self.call = ratio, f"{case_text(evidence.spec, evidence.case)}, seed {evidence.case.seed}"

    def merge(self, other: Ratios) -> None:
        """Count another's cases too."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        if other.worst > self.worst:
            self.worst, self.call = other.worst, other.call


@dataclass
class Cell:
    """One subject at one dtype: outputs, in cases of both kinds, and gradients."""

    cases: int = 0
    gradient_cases: int = 0
    unanswered: int = 0
    outputs: Ratios = field(default_factory=Ratios)
    gradients: Ratios = field(default_factory=Ratios)

    def merge(self, other: Cell) -> None:
        """Count another's cases too."""
        self.cases += other.cases
        self.gradient_cases += other.gradient_cases
        self.unanswered += other.unanswered
        self.outputs.merge(other.outputs)
        self.gradients.merge(other.gradients)


@dataclass
class Share:
    """How many cases of one spec and dtype could not judge anybody, and why. `vacuous` is of the `sampled` ones."""

    cases: int = 0
    ill_conditioned: int = 0
    invalid: int = 0
    sampled: int = 0
    vacuous: int = 0

    def add(self, evidence: Evidence) -> None:
        """Count one case."""
        self.cases += 1
        self.ill_conditioned += evidence.verdict.ill_conditioned
        if self.cases % SAMPLED == 0 and not evidence.verdict.ill_conditioned:
            self.sampled += 1
            self.vacuous += is_vacuous(evidence.spec, evidence.case, arrays(evidence.case, evidence.spec))

    def merge(self, other: Share) -> None:
        """Count another's cases too."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class Tally:
    """Everything counted. Keys: (spec, subject, dtype), (spec, dtype), spec -> argument, (spec, subject)."""

    cells: defaultdict[tuple[str, str, str], Cell] = field(default_factory=lambda: defaultdict(Cell))
    shares: defaultdict[tuple[str, str], Share] = field(default_factory=lambda: defaultdict(Share))
    taken: defaultdict[str, defaultdict[str, Counter[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )

    arguments: defaultdict[tuple[str, str], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    nearest: float = 0.0  # the worst error over bound of all that was inside its bound

    @property
    def cases(self) -> int:
        return sum(share.cases for share in self.shares.values())

    def merge(self, other: Tally) -> None:
        """Count another's cases too, of specs that this one knows nothing of or the same."""
        for place, cell in other.cells.items():
            self.cells[place].merge(cell)
        for where, share in other.shares.items():
            self.shares[where].merge(share)
        for spec, taken in other.taken.items():
            for argument, values in taken.items():
                self.taken[spec][argument].update(values)
        for subject, became in other.arguments.items():
            self.arguments[subject].update(became)
        self.nearest = max(self.nearest, other.nearest)

    def add(self, evidence: Evidence) -> None:
        """Count one case."""
        dtype = evidence.case.configuration.dtype
        self.shares[evidence.spec.name, dtype].add(evidence)
        for argument, value in values_taken(evidence.spec, evidence.case.configuration):
            self.taken[evidence.spec.name][argument][value] += 1
        for subject in evidence.answers:
            self._count(self.cells[evidence.spec.name, subject, dtype], subject, evidence)

    def add_invalid(self, spec: Spec, configuration: Configuration) -> None:
        """Count a case that the oracle itself refuses: a fault of the generator."""
        share = self.shares[spec.name, configuration.dtype]
        share.cases += 1
        share.invalid += 1

    def add_outcomes(self, spec: Spec, subject: str, found: Iterable[Outcome]) -> None:
        """Note what became of a subject's arguments: honoured, refused, inert or ignored."""
        worst_status(spec, found, self.arguments[spec.name, subject])

    def _count(self, cell: Cell, subject: str, evidence: Evidence) -> None:
        cell.cases += not evidence.gradient
        cell.gradient_cases += evidence.gradient
        outputs = dict(evidence.returned("outputs"))
        cell.unanswered += subject not in outputs
        if evidence.verdict.ill_conditioned or subject not in outputs:
            return
        self._add(cell.outputs, _worst(subject, "outputs", evidence), evidence)
        if evidence.gradient:
            self._add(cell.gradients, _worst(subject, "gradients", evidence), evidence)

    def _add(self, ratios: Ratios, ratio: float, evidence: Evidence) -> None:
        ratios.add(ratio, evidence)
        if self.nearest < ratio <= 1.0:
            self.nearest = ratio


def _worst(subject: str, part: Part, evidence: Evidence) -> float:
    tensors = dict(evidence.returned(part)).get(subject, {})
    return max(
        (evidence.comparison(subject, part, name).ratio for name in evidence.golds(part) if name in tensors), default=0.0
    )


def values_taken(spec: Spec, configuration: Configuration) -> Iterator[tuple[str, str]]:
    """What each argument is in `configuration`, in a few words; a list input member by member."""
    values: Mapping[str, object] = dict(configuration.values)
    for argument in (*spec.constructor, *spec.arguments):
        for member in argument.elements or (argument,):
            if member.role == "tensor":
                yield member.name, _tensor(member, configuration)
            else:
                yield member.name, repr(values.get(member.name, member.default))


def _tensor(argument: Argument, configuration: Configuration) -> str:
    plan = dict(configuration.tensors).get(argument.name)
    if plan is None:
        return NOT_GIVEN
    kind = "bool" if plan.dtype == "bool" else "int" if "int" in plan.dtype else "float"
    return f"{kind} {'x'.join(map(str, plan.shape)) or 'scalar'}"


def can_vary(argument: Argument) -> bool:
    """Whether a run is expected to show more than one value. An argument that is no matter of the call may stay where it is."""
    if argument.inert or argument.role in ("seed", "object", "placement"):
        return False
    if argument.tells or argument.role in ("tensor", "flag", "training"):
        return True
    choices = {repr(value) for value in (*argument.examples, *argument.choices)}
    if not argument.required:
        choices.add(repr(argument.default))
    return len(choices) > 1
