"""Every argument of every API dropped by a correct implementation: always, and only where something else of the call is so.

A dropping subject is the generated one, called with the argument at its default, at its plainest value where it has none, full
of zeros where it has to be a tensor, or, of a size, as the tensors have it. The guards of an API's paths ask for flags, for
what is given, for ranks and dtypes: so an argument is dropped beside each other one and without it, on each path, in each rank
and in each dtype. `make faults` prints who finds the drops; each that some call shows has to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, product

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.cases import Case, Configuration, pool
from attnspec.harness.checks import CASE_CHECKS, arguments, drawn, preconditions
from attnspec.harness.checks.arguments import EMPTY, STEP
from attnspec.harness.checks.evidence import Evidence
from attnspec.harness.checks.preconditions import Violation
from attnspec.harness.checks.variation import Variation, offered
from attnspec.harness.drive import derive
from attnspec.harness.facts import facts_as_meant
from attnspec.harness.lanes.call import WrongCount, filler, inputs, output_names
from attnspec.harness.lanes.framework import DTYPES
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Answer, Array, Raised, Returned
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import Subject, generated
from attnspec.spec.model import Argument, Spec
from attnspec.spec.resolve import EvaluationError, resolve

TARGETS = ("numpy", "torch")
USUAL, ALWAYS = "float32", "in every call"
OWNERS = ("object", "placement")  # what they are about is done before the call, to the weights
QUICK, MANY = 24, 96  # the calls of a quick run, each with two draws of values, and those that say whether a drop shows at all
SEED = 2
FINDERS = ("arguments", "cases", "preconditions")
HIDDEN, MISSED = "shows nowhere", "missed"


@dataclass(frozen=True, slots=True)
class Drop:
    """An argument, and the calls in which it is dropped."""

    argument: Argument
    where: str
    holds: Callable[[Configuration], bool]

    def __str__(self) -> str:
        return f"`{self.argument.name}` {self.where}"


def drops(spec: Spec) -> Iterator[Drop]:
    """Every drop of one argument, on every path and beside whatever could open another one."""
    every = [argument for argument in offered(spec) if argument.role not in OWNERS]
    paths = {path.name: partial(_is_on, spec, path.name) for path in spec.paths if len(spec.paths) > 1}
    ranks = {f"{rank} axes": partial(_has_rank, rank=rank) for rank in _ranks(spec)}
    for argument in every:
        yield Drop(argument, ALWAYS, lambda configuration: True)
        for where, holds in (*paths.items(), *ranks.items()):
            yield Drop(argument, f"on `{where}`", holds)
        for other in (each.name for each in every if each is not argument and not each.required and each.role != "seed"):
            yield Drop(argument, f"beside `{other}`", partial(_has, name=other))
            yield Drop(argument, f"without `{other}`", partial(_lacks, name=other))


def _has(configuration: Configuration, name: str) -> bool:
    return any(each == name for each, _ in (*configuration.values, *configuration.tensors))


def _lacks(configuration: Configuration, name: str) -> bool:
    return not _has(configuration, name)


def _is_on(spec: Spec, path: str, configuration: Configuration) -> bool:
    try:
        return resolve(spec, facts_as_meant(spec, configuration)).path.name == path
    except EvaluationError:  # an invalid call may be on none
        return False


def _has_rank(configuration: Configuration, rank: int) -> bool:
    return any(name == "query" and len(plan.shape) == rank for name, plan in configuration.tensors)


def _ranks(spec: Spec) -> Sequence[int]:
    layouts = next((argument.layouts for argument in spec.tensor_arguments if argument.name == "query"), ())
    return [len(layout.axes) for layout in layouts] if len(layouts) > 1 else []


# -- a subject that drops -----------------------------------------------------------------------------------------


@dataclass
class Dropping:
    """A correct subject that an argument does not reach. What it says to a call is asked once, whatever drops it."""

    spec: Spec
    call: arguments.Call
    drop: Drop | None = None
    said: dict[object, Answer] = field(default_factory=dict)

    def __call__(
        self,
        configuration: Configuration,
        given: Mapping[str, Array],
        layout: str = "",
        gradient: bool = False,
        seed: int = 0,
        turned: bool = False,
        second: bool = False,
    ) -> Answer:
        dropped = self.drop.argument if self.drop and self.drop.holds(configuration) else None
        made, left = without(self.spec, configuration, given, dropped) if dropped else (configuration, given)
        # Arrays by identity: whoever asks keeps them.
        key = configuration, made, seed, dropped and dropped.name, *map(id, given.values())
        if key not in self.said:
            self.said[key] = self._as_asked(configuration, self.call(made, left, seed=seed))
        return self.said[key]

    def _as_asked(self, configuration: Configuration, answer: Answer) -> Answer:
        """The answer, or the lane's complaint that another number of values is documented."""
        names = tuple(name for name in output_names(self.spec, configuration) if name)
        right = not isinstance(answer, Returned) or tuple(answer.outputs) == names
        return answer if right else Raised((WrongCount.__name__,), f"expected {', '.join(names)}")


def without(
    spec: Spec, configuration: Configuration, given: Mapping[str, Array], argument: Argument
) -> tuple[Configuration, Mapping[str, Array]]:
    """The call that an implementation makes of one from which it does not take the argument."""
    name = argument.name
    if argument.tells:
        return _told_by_shapes(configuration, argument), given
    if name in dict(configuration.values).values():  # the same object is another argument too
        return configuration, given
    if name in given and (argument.required or argument.when is not None):
        return configuration, {**given, name: np.zeros_like(given[name])}
    if name in given:
        left = {each: array for each, array in given.items() if each != name}
        return replace(configuration, tensors=tuple(pair for pair in configuration.tensors if pair[0] != name)), left
    if argument.role == "tensor" or name not in dict(configuration.values):
        return configuration, given
    return arguments.at_plain(spec, configuration, argument), given


def _told_by_shapes(configuration: Configuration, argument: Argument) -> Configuration:
    """The size as it is; an implementation that reads it off the tensors never sees that another one was told."""
    size = dict(configuration.sizes)[argument.tells[0]]
    values = tuple((name, size if name == argument.name else value) for name, value in configuration.values)
    return replace(configuration, values=values)


# -- who finds it -------------------------------------------------------------------------------------------------


@dataclass
class Finder:
    """Everything that a check asks of a subject of one spec, in one dtype; drops are told from what is said to it."""

    spec: Spec
    subject: Subject
    dropping: Dropping
    variations: Mapping[str, Sequence[Variation]]
    cases: Sequence[Case]
    violations: Sequence[tuple[Violation, Mapping[str, Array]]]
    wrong: dict[object, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Spec, subject: Subject, call: arguments.Call, dtype: str) -> Finder:
        """What the checks of a user's function ask."""
        alone, both = arguments.cases(spec, dtype)
        both = both if dtype == USUAL else []
        varied = [each for case in (*alone, *both) for each in arguments.variations(spec, case)]
        varied += drawn.under_dropout(spec, varied)
        by_name = {name: [v for v in varied if v.argument == name] for name in {v.argument for v in varied}}
        configurations = [*pool(spec, dtype, MANY), *(case.configuration for case in (*alone, *both))]
        asked = [Case(each, derive(SEED, number)) for number, each in enumerate(2 * configurations[:QUICK])]
        cases = [*asked, *(Case(configuration, seed) for configuration, seed in product(configurations, (STEP, EMPTY)))]
        broken = [(each, filler(each.configuration)) for each in preconditions.violations(spec, dtype)[0]]
        return cls(spec, subject, Dropping(spec, call), by_name, cases, broken)

    def found(self, drop: Drop) -> str:
        """The first check that sees a drop, or why none does."""
        self.dropping.drop = drop
        asks = self._by_arguments, self._by_cases, self._by_preconditions
        seen = next((name for name, ask in zip(FINDERS, asks, strict=True) if ask(drop)), None)
        return seen or (MISSED if self._is_wrong(drop, self.cases) else HIDDEN)

    def _by_arguments(self, drop: Drop) -> bool:
        mine = self.variations.get(drop.argument.name, ())
        return any(arguments.check(self.spec, self.subject, list(arguments.outcomes(self.dropping, mine))))

    def _by_cases(self, drop: Drop) -> bool:
        return self._is_wrong(drop, self.cases[: 2 * QUICK])

    def _is_wrong(self, drop: Drop, cases: Sequence[Case]) -> bool:
        return any(self._fails(drop, case) for case in cases if drop.holds(case.configuration))

    def _fails(self, drop: Drop, case: Case) -> bool:
        """Whether the call is wrong without the argument."""
        key = drop.argument.name, case
        if key not in self.wrong:
            given = inputs(arrays(case, self.spec))
            made, left = without(self.spec, case.configuration, given, drop.argument)
            same = made == case.configuration and left is given
            self.wrong[key] = not same and self._judged(case, given)
        return self.wrong[key]

    def _judged(self, case: Case, given: Mapping[str, Array]) -> bool:
        answers = {self.subject.name: self.dropping(case.configuration, given)}
        evidence = Evidence(self.spec, case, judge(self.spec, case, given, False), answers, False)
        return any(True for check in ("answers", "oracle") for _ in CASE_CHECKS[check](evidence))

    def _by_preconditions(self, drop: Drop) -> bool:
        """Of what is refused rightly, something that is answered."""
        return any(
            isinstance(self.dropping(violation.configuration, given), Returned)
            for violation, given in self.violations
            if drop.holds(violation.configuration)
        )


def hunted(target: str, specs: Sequence[Spec]) -> Iterator[tuple[Subject, dict[str, str]]]:
    """Every drop by the implementations of a target, with the check that finds it."""
    with Lane(target) as lane:
        for spec in specs:
            subject = next(generated(spec, target), None)
            if subject is not None:
                call = partial(lane.call, spec, subject)
                yield subject, dict(chain.from_iterable(_hunted(spec, subject, call, dtype) for dtype in DTYPES[target]))


def _hunted(spec: Spec, subject: Subject, call: arguments.Call, dtype: str) -> Iterator[tuple[str, str]]:
    """In a dtype other than the usual one only what is dropped in all of its calls: that is the path."""
    finder = Finder.of(spec, subject, call, dtype)
    for drop in drops(spec):
        if dtype == USUAL or drop.where == ALWAYS:
            yield f"{drop} in {dtype}", finder.found(drop)
