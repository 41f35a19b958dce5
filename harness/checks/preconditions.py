"""A call that breaks a precondition raises what is declared, and is never answered.

The declared preconditions say how to break them (`violate`). Layouts and dtypes imply more: a tensor of a rank that no
layout has, an axis that clashes with the same dim of another tensor (key and value of different length among them),
integers for query, key and value, a mask that is not what its dtype rule says. Each is tried from several
configurations, for real functions refuse on one path and accept on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from math import prod

from attnspec.harness.cases import Case, Configuration, TensorPlan, pool
from attnspec.harness.checks.failure import Failure
from attnspec.harness.facts import facts, facts_as_meant
from attnspec.harness.lanes.messages import Answer, Lost, Raised
from attnspec.harness.pool import dtypes_of
from attnspec.harness.subjects import Subject
from attnspec.spec.expression import names
from attnspec.spec.model import Argument, Axis, Default, Layout, Precondition, Spec
from attnspec.spec.resolve import EvaluationError, Facts, ShapeMismatch, holds

BASES = 24  # of the pool, simplest first
PER_CLAUSE = 12
ANY = "Exception"  # what a user's function has to raise where its own requirements are not met
LOOSE_TYPES = ("r",)  # lanes where a whole double is an integer, an integer a number, a scalar a vector of one
# What counts as a refusal where no type is declared: an accident such as IndexError does not.
REFUSALS = ("ValueError", "TypeError", "RuntimeError", "NotImplementedError")


@dataclass(frozen=True, slots=True)
class Violation:
    """An invalid call. `raises` holds the types of which one must come."""

    clause: str
    configuration: Configuration
    raises: tuple[str, ...]


def violations(spec: Spec, dtype: str) -> tuple[list[Violation], list[str]]:
    """The invalid calls to make, and the API's clauses that nothing in the pool could be made to break.

    Beside a subject's own requirements, which may exclude all such calls, no clause has to be breakable.
    """
    bases = pool(spec, dtype, BASES)
    found: list[Violation] = []
    unbroken = []
    for precondition in spec.preconditions:
        is_own = precondition.raises == ANY
        ways = [replace(precondition, violate=(violate,)) for violate in precondition.violate]
        broken = [list(_unmet(spec, precondition, dtype))] if is_own else [list(_declared(spec, way, bases)) for way in ways]
        found += chain.from_iterable(map(_varied, broken))
        if not any(broken) and spec.preconditions[-1].raises != ANY:
            unbroken.append(precondition.clause)
    for clause, implied in _implied(spec, bases).items():
        found += _varied([Violation(clause, configuration, (*REFUSALS, spec.layout_error)) for configuration in implied])
    return found, unbroken


def breaking(spec: Spec, clause: str, bases: Sequence[Configuration]) -> list[Violation]:
    """Every way in which configurations can be made to break a clause, the owner's or an implied one."""
    declared = next((each for each in spec.preconditions if each.clause == clause), None)
    if declared is not None:
        return list(_declared(spec, declared, bases))
    raises = (*REFUSALS, spec.layout_error)
    return [Violation(clause, configuration, raises) for configuration in _implied(spec, bases).get(clause, [])]


def _varied(broken: Sequence[Violation]) -> list[Violation]:
    """A few of one clause, one of each combination of ranks and of equal or different head dims: real paths hang on those."""
    kinds: dict[object, Violation] = {}
    for violation in broken:
        sizes = dict(violation.configuration.sizes)
        ranks = tuple((name, len(plan.shape)) for name, plan in violation.configuration.tensors)
        kinds.setdefault((ranks, sizes.get("H") == sizes.get("V")), violation)
    return list(kinds.values())[:PER_CLAUSE]


def is_invalid(violation: Violation, spec: Spec, lane: str) -> bool:
    """Whether the call is invalid in that lane's language too."""
    name = violation.clause.removeprefix("dtype of ")
    whole = violation.clause == "integers" or (name != violation.clause and spec.argument(name).dtype == "integer")
    scalar = any(plan.shape == () for _, plan in violation.configuration.tensors)
    return lane not in LOOSE_TYPES or not (whole or scalar)


# -- declared -----------------------------------------------------------------------------------------------------


def _declared(spec: Spec, precondition: Precondition, bases: Sequence[Configuration]) -> Iterator[Violation]:
    for base, violate in product(bases, precondition.violate):
        changed = _changed(spec, base, violate)
        if changed is not None and _breaks(spec, precondition, changed):
            yield Violation(precondition.clause, changed, (precondition.raises,))


def _changed(spec: Spec, base: Configuration, violate: Mapping[str, Default]) -> Configuration | None:
    """`base` with what `violate` names; None where it lacks a tensor that has to be given, and it is not clear how."""
    sizes = dict(base.sizes)
    values: dict[str, Default] = dict(base.values)
    tensors = dict(base.tensors)
    for name, value in _told(spec, violate).items():
        if name in sizes and isinstance(value, int):
            tensors = {each: _resized(spec, each, plan, sizes, name, value) for each, plan in tensors.items()}
        elif value == "given":
            given = tensors.get(name) or _plain(spec, name, sizes, base.dtype)
            if given is None:
                return None
            tensors[name] = given
        elif value is None and name in {argument.name for argument in spec.tensor_arguments}:
            tensors.pop(name, None)
        else:
            values[name] = value
    sizes |= {name: value for name, value in _told(spec, violate).items() if name in sizes and isinstance(value, int)}
    values |= {argument.name: sizes[argument.tells[0]] for argument in spec.tellers}
    return _configuration(base, sizes, values, tensors)


def _plain(spec: Spec, name: str, sizes: Mapping[str, int], dtype: str) -> TensorPlan | None:
    """An optional tensor in its first layout, where that has plain axes and groups; None for any other."""
    argument = spec.argument(name)
    layout = argument.layouts[0]
    if layout.batched or any(axis.or_one for axis in layout.axes) or not set(layout.dims) <= sizes.keys():
        return None
    return TensorPlan(tuple(prod(sizes[dim] for dim in axis.dims) for axis in layout.axes), dtypes_of(argument, dtype)[0])


def _told(spec: Spec, violate: Mapping[str, Default]) -> dict[str, Default]:
    """What `violate` names, an argument that tells the size of dims as these."""
    tells = {argument.name: argument.tells for argument in spec.tellers}
    return {dim: value for name, value in violate.items() for dim in tells.get(name, (name,))}


def _resized(spec: Spec, name: str, plan: TensorPlan, sizes: dict[str, int], dim: str, size: int) -> TensorPlan:
    """The plan with `dim` at another size; axes of 1 that broadcast stay."""
    layout = layout_of(spec, name, plan)
    if layout is None or size < 0:  # no size at all: the argument that tells it is wrong by itself
        return plan
    shape = list(plan.shape)
    for position, axis in _positions(layout, plan):
        if dim in axis.dims and not (axis.or_one and shape[position] == 1):
            others = shape[position] // max(1, sizes[dim]) if len(axis.dims) > 1 else 1
            shape[position] = others * size
    return replace(plan, shape=tuple(shape))


def _breaks(spec: Spec, precondition: Precondition, configuration: Configuration) -> bool:
    """Whether exactly this precondition fails."""
    try:
        known = facts(spec, configuration)
    except ShapeMismatch:
        if not _is_constructors(spec, precondition):
            return False
        known = facts_as_meant(spec, configuration)  # the constructor refuses it before any tensor is seen
    return all(_fails(other, known) == (other.clause == precondition.clause) for other in spec.preconditions)


def _is_constructors(spec: Spec, precondition: Precondition) -> bool:
    return names(precondition.requires) <= {argument.name for argument in (*spec.constructor, *spec.tellers)}


def _fails(precondition: Precondition, known: Facts) -> bool:
    try:
        return holds(precondition.when, known) and not holds(precondition.requires, known)
    except EvaluationError:  # no heads to divide by: it cannot hold
        return True


def _unmet(spec: Spec, precondition: Precondition, dtype: str) -> Iterator[Violation]:
    """Calls that the API takes and a subject's own requirement excludes."""
    open_ = replace(spec, preconditions=tuple(each for each in spec.preconditions if each is not precondition))
    for base in pool(open_, dtype, BASES):
        if _breaks(spec, precondition, base):
            yield Violation(precondition.clause, base, (ANY,))


# -- implied ------------------------------------------------------------------------------------------------------


def _implied(spec: Spec, bases: Sequence[Configuration]) -> dict[str, list[Configuration]]:
    """Invalid configurations by clause."""
    found: dict[str, list[Configuration]] = {}
    for base in bases:
        for clause, configuration in (*_ranks(spec, base), *_clashes(spec, base), *_dtypes(spec, base)):
            found.setdefault(clause, []).append(configuration)
    return found


def _ranks(spec: Spec, base: Configuration) -> Iterator[tuple[str, Configuration]]:
    """A rank that no layout has: one axis more, or where any number of batch axes goes, one fewer than the least."""
    for argument, plan in _given(spec, base):
        if any(layout.batched for layout in argument.layouts):
            least = min(len(layout.axes) for layout in argument.layouts)
            shape = plan.shape[len(plan.shape) - least + 1 :] if least else None
        else:
            most = max(len(layout.axes) for layout in argument.layouts)
            shape = (1,) * (most + 1 - len(plan.shape)) + plan.shape
        if shape is not None:
            yield f"rank of {argument.name}", _with(base, argument.name, replace(plan, shape=shape))


def _clashes(spec: Spec, base: Configuration) -> Iterator[tuple[str, Configuration]]:
    """One axis longer by one, wherever the spec itself then finds that two tensors do not fit together."""
    for argument, plan in _given(spec, base):
        layout = layout_of(spec, argument.name, plan)
        for position, axis in _positions(layout, plan) if layout else ():
            if len(axis.dims) == 1 and plan.shape[position] > 1:
                shape = tuple(size + (place == position) for place, size in enumerate(plan.shape))
                changed = _with(base, argument.name, replace(plan, shape=shape))
                if _clash(spec, changed):
                    yield f"{axis.dims[0]} of {argument.name}", changed


def _clash(spec: Spec, configuration: Configuration) -> bool:
    try:
        facts(spec, configuration)
    except ShapeMismatch:
        return True
    return False


def _dtypes(spec: Spec, base: Configuration) -> Iterator[tuple[str, Configuration]]:
    """Integers for all floating tensors at once; and for each other tensor a dtype that its rule excludes."""
    integers = base
    for argument, plan in _given(spec, base):
        if argument.dtype == "floating" and argument.required:
            integers = _with(integers, argument.name, replace(plan, dtype="int32"))
        elif argument.dtype in ("bool", "bool or floating"):
            yield f"dtype of {argument.name}", _with(base, argument.name, replace(plan, dtype="int32"))
        elif argument.dtype == "integer":
            yield f"dtype of {argument.name}", _with(base, argument.name, replace(plan, dtype="float32"))
    yield "integers", integers


# -- configurations -----------------------------------------------------------------------------------------------


def _given(spec: Spec, base: Configuration) -> Iterator[tuple[Argument, TensorPlan]]:
    plans = dict(base.tensors)
    for argument in spec.tensor_arguments:
        if argument.name in plans:
            yield argument, plans[argument.name]


def layout_of(spec: Spec, name: str, plan: TensorPlan) -> Layout | None:
    """The layout that fits the plan's rank; a batched one where no other does. None for what has no layout."""
    try:
        layouts = spec.argument(name).layouts
    except KeyError:
        return next((weight.layout for weight in spec.weights if weight.name == name), None)
    exact = [layout for layout in layouts if not layout.batched and len(layout.axes) == len(plan.shape)]
    return next(iter([*exact, *(layout for layout in layouts if layout.batched)]), None)


def _positions(layout: Layout, plan: TensorPlan) -> Iterator[tuple[int, Axis]]:
    """Each named axis with its place in the shape; batch axes come before."""
    first = len(plan.shape) - len(layout.axes)
    for place, axis in enumerate(layout.axes):
        yield first + place, axis


def _with(base: Configuration, name: str, plan: TensorPlan) -> Configuration:
    return _configuration(base, dict(base.sizes), dict(base.values), dict(base.tensors) | {name: plan})


def _configuration(
    base: Configuration, sizes: dict[str, int], values: dict[str, Default], tensors: dict[str, TensorPlan]
) -> Configuration:
    return replace(base, sizes=tuple(sizes.items()), values=tuple(values.items()), tensors=tuple(tensors.items()))


# -- judging ------------------------------------------------------------------------------------------------------


def check(spec: Spec, subject: Subject, violation: Violation, answer: Answer, case: Case) -> Iterator[Failure]:
    """One failure where the call was answered, raised something else, or took its lane with it."""
    if isinstance(answer, Raised) and (set(answer.types) & set(violation.raises) or _is_plain_stop(subject)):
        return
    if isinstance(answer, Lost) and answer.how == "not run":
        return
    wanted = "" if violation.raises == (ANY,) else " " + " or ".join(dict.fromkeys(violation.raises))
    message = f"a call that breaks `{violation.clause}` must raise{wanted}; it {said(answer)}"
    yield Failure(subject.name, "preconditions", violation.clause, seen(answer), message, spec.name, case)


def _is_plain_stop(subject: Subject) -> bool:
    """Whether any condition is a refusal: a user's `stop("...")` in R has no class to tell it by."""
    return subject.is_brought and subject.lane in LOOSE_TYPES


def seen(answer: Answer) -> str:
    """What happened, in the words that a known deviation uses."""
    match answer:
        case Raised():
            return f"raised {answer.type}"
        case Lost(how=how):
            return how
    return "accepted"


def said(answer: Answer) -> str:
    """What happened, for a message."""
    match answer:
        case Raised():
            return f"raised {answer}"
        case Lost():
            return str(answer)
    return "was accepted"


def violation_of(spec: Spec, clause: str, configuration: Configuration) -> Violation:
    """The violation that a finding was about."""
    declared = {precondition.clause: precondition.raises for precondition in spec.preconditions}
    return Violation(clause, configuration, (declared[clause],) if clause in declared else (*REFUSALS, spec.layout_error))
