"""Which calls are tried: a pool of configurations that covers pairs of choices, and small free ones for shrinking.

A choice is one option for each factor: the sizes, the layout of the required tensors, each optional tensor (absent, or
given in one of its forms), each Python value. The pool is filled greedily, each time with the valid choice that shows
most options, and pairs of options, for the first time; sizes go from small to large, so it is ordered simplest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import prod
from random import Random

from hypothesis import strategies as st

from attnspec.harness.arrangement import split
from attnspec.harness.configuration import Configuration, TensorPlan
from attnspec.harness.sizes import LARGE, SHAPES, sizes_for
from attnspec.spec.binding import ShapeMismatch, Tensor, tensors_of
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Number, Unary
from attnspec.spec.model import Argument, Default, DType, Layout, Spec
from attnspec.spec.resolve import EvaluationError, Facts, evaluate, facts_of, holds, resolve
from attnspec.spec.returns import parts

CANDIDATES = 40
EVERY = 6  # one configuration in so many takes a shortcut of the owner's, where there is one
Option = object
Choice = Mapping[str, Option]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to give a tensor: which layout, which of its `|1` axes are 1, how many batch axes, its dtype."""

    layout: int
    ones: tuple[bool, ...]
    batch: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Factors:
    """The options of every factor of a spec, the simplest first."""

    spec: Spec
    dtype: str
    tensors: tuple[Tensor, ...]
    options: Mapping[str, tuple[Option, ...]]

    @classmethod
    def of(cls, spec: Spec, dtype: str) -> Factors:
        """What can be chosen for a call of `spec`."""
        tensors = tensors_of(spec)
        arguments = {a.name: a for a in spec.tensor_arguments}
        options: dict[str, tuple[Option, ...]] = {}
        required = [t for t in tensors if t.required and t.name in arguments]
        ranked = [t for t in required if "B" in t.layouts[0].dims or t.batched]  # a weight among them has its own rank
        options["layout"] = tuple(range(min((len(t.layouts) for t in ranked), default=1)))
        if any(t.batched for t in required):
            options["batch"] = ("one", "two", "none")
        for tensor in tensors:
            if tensor.name in arguments and arguments[tensor.name].when is not None:
                continue  # other arguments decide on it
            if tensor.name in arguments and not tensor.required and not arguments[tensor.name].inert:
                options[tensor.name] = (None, *_forms(tensor, arguments[tensor.name], dtype))
            elif tensor.name in arguments and arguments[tensor.name].examples:
                options[tensor.name] = ("", *arguments[tensor.name].examples)
        for argument in (*spec.constructor, *spec.arguments):
            values = tuple(_values(argument))
            if values:
                options[argument.name] = values
        return cls(spec, dtype, tensors, options)

    def simplest(self) -> dict[str, Option]:
        """The first option of every factor."""
        return {name: options[0] for name, options in self.options.items()}

    def alone(self) -> list[Choice]:
        """One factor at another option than the first, once for each kind of option."""
        return [{name: option} for name, options in self.options.items() for option in _kinds(options)]

    def draw(self, random: Random) -> dict[str, Option]:
        """Any option of every factor, optional tensors absent half of the time."""
        drawn = {}
        for name, options in self.options.items():
            number = int(random.random() * len(options))
            absent = options[0] is None and len(options) > 2 and random.random() < 0.5
            drawn[name] = options[0 if absent else number]
        return drawn


def _kinds(options: Sequence[Option]) -> Iterator[Option]:
    """Of the options but the first, one of each kind: a boolean and a float mask, an integer, a pair, each number."""
    kinds: dict[object, Option] = {}
    for option in options[1:]:
        kind: object = option if isinstance(option, float) else type(option)
        kinds.setdefault(option.dtype if isinstance(option, Form) else kind, option)
    yield from kinds.values()


def _values(argument: Argument) -> Iterator[Default]:
    """The Python values to try for an argument; one that is inert, or no matter of the call, stays at its default."""
    if argument.role in ("tensor", "tensors", "object", "placement", "seed") or argument.inert:
        return
    if argument.tells and not argument.required:  # left out, or told
        yield from (None, True, "several") if argument.several else (None, True)
        return
    tried: list[Default] = [] if argument.required else [argument.default]
    if argument.role in ("flag", "training") and not argument.examples:
        tried += [False, True]
    yield from dict.fromkeys([*tried, *argument.examples, *argument.choices])


def _forms(tensor: Tensor, argument: Argument, dtype: str) -> Iterator[Form]:
    """How an optional tensor can be given: every layout, full and with its broadcast axes at 1."""
    for number, layout in enumerate(tensor.layouts):
        free = [axis.or_one for axis in layout.axes]
        patterns = dict.fromkeys(tuple(one and pick(place) for place, one in enumerate(free)) for pick in _PICKS)
        for batch in ("full", "ones", "none") if layout.batched else ("full",):
            for ones, kind in itertools.product(patterns, dtypes_of(argument, dtype)):
                yield Form(number, ones, batch, kind)


# Which of the `|1` axes are 1, by their place: none, heads, every other, queries, all.
_PICKS: tuple[Callable[[int], bool], ...] = (
    lambda place: False,
    lambda place: place == 1,
    lambda place: place % 2 == 0,
    lambda place: place == 2,
    lambda place: True,
)


def dtypes_of(argument: Argument, dtype: str) -> tuple[str, ...]:
    """The dtypes that a tensor may have in a call of `dtype`, the usual one first."""
    kinds: dict[DType, tuple[str, ...]] = {
        "floating": (dtype,), "bool": ("bool",), "integer": ("int32",),
        "bool or floating": ("bool", dtype), "bool or number": ("bool", "int32"),
    }  # fmt: skip
    return kinds[argument.dtype]


# -- configurations -----------------------------------------------------------------------------------------------


def configuration(factors: Factors, sizes: Mapping[str, int], choice: Choice) -> Configuration | None:
    """The call that a choice describes; None where its shapes do not fit together or a precondition fails."""
    spec = factors.spec
    sizes = _agreeing(factors, sizes, choice)
    told = [a for a in spec.tellers if choice.get(a.name, True)]
    choice = {**choice, **{a.name: _told_size(a, sizes, choice) for a in told}}
    chosen = {a.name: choice[a.name] for a in (*spec.constructor, *spec.arguments) if a.name in choice and a.role != "tensor"}
    chosen |= _places(spec, choice)
    values = {name: value for name, value in chosen.items() if differs(spec.argument(name), value)}
    try:
        scope = facts_of(spec, values, {}, {})  # type: ignore[arg-type]
        tensors = dict(_tensors(factors, sizes, choice, scope))
        facts = facts_of(spec, values, *_forms_of(tensors))  # type: ignore[arg-type]
        tensors |= _decided(factors, sizes, facts)
        facts = facts_of(spec, values, *_forms_of(tensors))  # type: ignore[arg-type]
        if not valid(spec, facts):
            return None
    except (ShapeMismatch, EvaluationError, _DoesNotFit):
        return None
    ordered = [*(a.name for a in spec.tensor_arguments), *(w.name for w in spec.weights)]
    return Configuration(
        spec.name,
        factors.dtype,
        tuple((name, size) for name, size in facts.sizes.items() if len(name) == 1),
        tuple(values.items()),  # type: ignore[arg-type]
        tuple((name, tensors[name]) for name in ordered if name in tensors),
    )


def _told_size(argument: Argument, sizes: Mapping[str, int], choice: Choice) -> int | tuple[int, ...]:
    """The size that an argument tells, perhaps that of two axes."""
    size = sizes[argument.tells[0]]
    return split(size, 2) if choice.get(argument.name) == "several" else size


def _forms_of(tensors: Mapping[str, TensorPlan]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and dtypes by name."""
    return {name: plan.shape for name, plan in tensors.items()}, {name: plan.dtype for name, plan in tensors.items()}


def _decided(factors: Factors, sizes: Mapping[str, int], facts: Facts) -> dict[str, TensorPlan]:
    """The tensors that are given because others are, or because of a flag."""
    found = {}
    for argument in factors.spec.tensor_arguments:
        if argument.when is not None and holds(argument.when, facts):
            shape = _shape(argument.layouts[0], {**sizes, **facts.sizes}, (), ())
            found[argument.name] = TensorPlan(shape, dtypes_of(argument, factors.dtype)[0])
    return found


def _places(spec: Spec, choice: Choice) -> dict[str, Option]:
    """The tensors that are another one, which is itself in its own place."""
    found: dict[str, Option] = {}
    for argument in spec.tensor_arguments:
        other = choice.get(argument.name)
        if other and isinstance(other, str):
            found[argument.name] = found.get(other, other)
    return found


def _agreeing(factors: Factors, sizes: Mapping[str, int], choice: Choice) -> Mapping[str, int]:
    """The sizes, made to fit: what arguments tell together, what follows from it, and tensors in each other's places.

    A dim of the spec's own gets an odd size, beside E.
    """
    spec = factors.spec
    agreed = _divisible(spec, sizes)
    own = {dim for tensor in factors.tensors for layout in tensor.layouts for dim in layout.dims} - agreed.keys()
    agreed |= {dim: agreed["E"] + 3 + 2 * place for place, dim in enumerate(sorted(own))}
    told: dict[str, int] = {}
    for argument in spec.tellers:
        size = agreed[argument.tells[0]]
        if argument.unset is not None and choice.get(argument.name) is None:
            size = int(evaluate(argument.unset, {**agreed, **told}))
        told[argument.name] = size
        agreed |= dict.fromkeys(argument.tells, size)
    by_name = {tensor.name: tensor for tensor in factors.tensors}
    for tensor in factors.tensors:
        place = choice.get(tensor.name)
        other = tensor.stands_in if place is None else place
        if other and isinstance(other, str):
            pairs = zip(tensor.layouts[0].dims, by_name[other].layouts[0].dims, strict=True)
            agreed |= {own: agreed[other] for own, other in pairs}
    agreed |= _demanded(spec, agreed, choice)
    derived = {dim: rule for dim, rule in spec.told.items() if not isinstance(rule, Name) and dim != "G"}
    return agreed | {dim: int(evaluate(rule, told)) for dim, rule in derived.items()}


def _demanded(spec: Spec, sizes: Mapping[str, int], choice: Choice) -> dict[str, int]:
    """The dims that a precondition wants to be equal to others, where it applies to the flags of a choice."""
    found = {}
    flags = {a.name: choice[a.name] for a in spec.arguments if a.role == "flag" and a.name in choice}
    for precondition in spec.preconditions:
        for part in parts(precondition.requires, "and"):
            match part:
                case Binary("==", Name(one), Name(other)) if one in sizes and other in sizes:
                    if holds(precondition.when, facts_of(spec, flags, {}, {})):  # type: ignore[arg-type]
                        found[one] = sizes[other]
    return found


def _divisible(spec: Spec, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes where the constructor tells a product (`H = E // N`): that of its parts."""
    found, done = dict(sizes), set[str]()
    told = {dim for argument in spec.tellers for dim in argument.tells}
    for dim, rule in spec.sizes.items():
        match rule:
            case Binary("//", Name(whole), Name(part)) if {whole, part} <= told and dim in sizes and whole not in done:
                found[whole] = sizes[dim] * sizes[part]
                done.add(whole)
    return found


class _DoesNotFit(Exception):
    """A tensor that this choice cannot be given."""


def valid(spec: Spec, facts: Facts) -> bool:
    """Whether a call fulfils every precondition, and the oracle can judge it: no dropout."""
    for precondition in spec.preconditions:
        if holds(precondition.when, facts) and not holds(precondition.requires, facts):
            return False
    return all(
        stage.kind != "dropout" or evaluate(stage.expression, facts.scope, facts) == 0 for stage in resolve(spec, facts).stages
    )


def differs(argument: Argument, value: Option) -> bool:
    """Whether a value has to be passed: it is not the default."""
    return argument.required or type(value) is not type(argument.default) or value != argument.default


def _tensors(factors: Factors, sizes: Mapping[str, int], choice: Choice, facts: Facts) -> Iterator[tuple[str, TensorPlan]]:
    number = choice["layout"]
    assert isinstance(number, int)
    batch = _batch(sizes, choice) if "batch" in choice and factors.tensors[0].layouts[number].batched else ()
    weights = {weight.name: weight for weight in factors.spec.weights}
    sizes = {**sizes, **_missing(factors, number)}
    for tensor in (each.under(facts.values) for each in factors.tensors):
        form = choice.get(tensor.name)
        if tensor.name in weights:
            if holds(weights[tensor.name].when, facts):
                yield tensor.name, TensorPlan(_shape(tensor.layouts[0], sizes, (), batch), factors.dtype)
        elif tensor.required and not form:
            layout = tensor.layouts[min(number, len(tensor.layouts) - 1)]
            dtype = dtypes_of(factors.spec.argument(tensor.name), factors.dtype)[0]
            yield tensor.name, TensorPlan(_shape(layout, sizes, (), batch), dtype)
        elif isinstance(form, Form):
            if not _fits(tensor, form, number):
                raise _DoesNotFit
            own = {"full": batch, "ones": (1,) * len(batch), "none": ()}[form.batch]
            yield tensor.name, TensorPlan(_shape(tensor.layouts[form.layout], sizes, form.ones, own), form.dtype)


def _fits(tensor: Tensor, form: Form, number: int) -> bool:
    """Whether an optional tensor can come in a form when the required ones have their layout of that number."""
    grouped = any(len(axis.dims) > 1 for axis in tensor.layouts[form.layout].axes)
    if len(tensor.layouts) == 1 or grouped:
        return True
    return form.layout == number if tensor.aligned else form.layout >= number


def _missing(factors: Factors, number: int) -> dict[str, int]:
    """The dims that the chosen layouts of the required tensors lack: `T N H` means B = 1."""
    required = [tensor for tensor in factors.tensors if tensor.required and len(tensor.layouts) > number]
    usual = {dim for tensor in required for dim in tensor.layouts[0].dims}
    chosen = {dim for tensor in required for dim in tensor.layouts[number].dims}
    return dict.fromkeys(usual - chosen, 1)


def _batch(sizes: Mapping[str, int], choice: Choice) -> tuple[int, ...]:
    return {"one": (sizes["B"],), "two": (2, sizes["B"]), "none": ()}[str(choice["batch"])]


def _shape(layout: Layout, sizes: Mapping[str, int], ones: Sequence[bool], batch: tuple[int, ...]) -> tuple[int, ...]:
    lengths = [prod(sizes[dim] for dim in axis.dims) for axis in layout.axes]
    if ones:
        lengths = [1 if one else length for one, length in zip(ones, lengths, strict=True)]
    return (*(batch if layout.batched else ()), *lengths)


# -- the pool -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _pool(spec_id: int, dtype: str, count: int) -> tuple[Configuration, ...]:
    spec = _SPECS[spec_id]
    factors = Factors.of(spec, dtype)
    random = Random(int.from_bytes(blake2b(f"{spec.name} {dtype}".encode(), digest_size=8).digest(), "big"))
    seen: set[Option] = set()
    found: dict[Configuration, None] = {}
    for number in range(4 * count):
        if len(found) == count:
            break
        best = _best(factors, sizes_for(number), number, random, seen)
        if best is not None:
            found.setdefault(best)
    return tuple(found)


_SPECS: dict[int, Spec] = {}


def pool(spec: Spec, dtype: str, count: int) -> tuple[Configuration, ...]:
    """`count` configurations of `spec`, the simplest first, the same in every process."""
    _SPECS[id(spec)] = spec
    return _pool(id(spec), dtype, count)


@lru_cache(maxsize=64)
def _large(spec_id: int, dtype: str) -> tuple[Configuration, ...]:
    factors = Factors.of(_SPECS[spec_id], dtype)
    made = (configuration(factors, sizes, factors.simplest()) for sizes in LARGE)
    return tuple(each for each in made if each is not None)


def large(spec: Spec, dtype: str) -> tuple[Configuration, ...]:
    """The simplest call at the largest sizes. In the pool those are hidden behind whatever its choices mask."""
    _SPECS[id(spec)] = spec
    return _large(id(spec), dtype)


def _best(factors: Factors, sizes: Mapping[str, int], number: int, random: Random, seen: set[Option]) -> Configuration | None:
    """The valid candidate that shows most for the first time; the first of all is the simplest call."""
    drawn = (factors.draw(random) for _ in range(CANDIDATES if number else 0))
    candidates: list[dict[str, Option]]
    if factors.spec.shortcuts and number % EVERY == EVERY - 1:
        shortcut = factors.spec.shortcuts[number // EVERY % len(factors.spec.shortcuts)].when
        candidates = [_toward(factors, choice, shortcut) for choice in drawn]
    else:
        candidates = [*drawn, factors.simplest()]
    best, most, shown = None, -1.0, frozenset[Option]()
    for candidate in candidates:
        new = _shown(candidate) - seen
        worth = sum(1.0 if isinstance(option, frozenset) else 20.0 for option in new)
        if worth <= most:
            continue
        made = configuration(factors, sizes, candidate)
        if made is not None:
            best, most, shown = made, worth, frozenset(new)
    seen |= shown
    return best


def taking(spec: Spec, dtype: str, shortcut: str, count: int) -> list[Configuration]:
    """Configurations that take a shortcut of the owner's, or try to: of so many choices those that are valid."""
    factors, random = Factors.of(spec, dtype), Random(count)
    guard = next(each.when for each in spec.shortcuts if each.name == shortcut)
    made = (configuration(factors, sizes_for(n), _toward(factors, factors.draw(random), guard)) for n in range(count))
    return [each for each in made if each is not None]


def _toward(factors: Factors, choice: dict[str, Option], guard: Expression) -> dict[str, Option]:
    """The choice with the flags, places and ranks that a guard asks for; what else it asks for is left to chance."""
    for part in parts(guard, "and"):
        match part:
            case Name(flag) if flag in choice:
                choice[flag] = True
            case Unary("not", Name(flag)) if flag in choice:
                choice[flag] = False
            case IsNone(name) if name in choice:
                choice[name] = None
            case Call("same", (Name(one), Name(other))):
                choice[other] = one
            case Binary("==", Call("rank", (Name(tensor),)), Number(rank)):
                layouts = factors.spec.argument(tensor).layouts
                choice["layout"] = next(place for place, layout in enumerate(layouts) if len(layout.axes) == rank)
    return choice


def _shown(choice: Choice) -> set[Option]:
    """The options of a choice, and all pairs of them."""
    items = list(choice.items())
    return {*items, *(frozenset(pair) for pair in itertools.combinations(items, 2))}


def free(spec: Spec, dtype: str) -> st.SearchStrategy[Configuration]:
    """Small configurations outside the pool, for shrinking: sizes from 1 to 5, every choice the simplest first."""
    factors = Factors.of(spec, dtype)
    letters = tuple(dict.fromkeys(letter for shape in SHAPES[:1] for letter in shape))
    sizes = st.fixed_dictionaries({letter: st.integers(1, 5) for letter in letters})
    choices = st.fixed_dictionaries({name: st.sampled_from(options) for name, options in factors.options.items()})
    drawn = st.builds(lambda sizes, choice: configuration(factors, sizes, choice), sizes, choices)
    return drawn.filter(lambda made: made is not None).map(_certain)


def _certain(made: Configuration | None) -> Configuration:
    assert made is not None
    return made
