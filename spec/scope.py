"""The names that the expressions of one spec may use, and the checks that they use no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from attnspec.spec.declarations import Declarations
from attnspec.spec.errors import Errors, Key, alternatives, described
from attnspec.spec.expression import (
    GUARD_FUNCTIONS,
    Access,
    Binary,
    Call,
    Concat,
    Expression,
    ExpressionError,
    IsNone,
    Name,
    Number,
    Sum,
    Text,
    names,
    walk,
)
from attnspec.spec.layouts import paired_dims
from attnspec.spec.model import Argument, Layout, Weight
from attnspec.spec.reading import column
from attnspec.spec.sorts import Sort, Sorts
from attnspec.spec.suggestions import did_you_mean

SCALARS = ("number", "integer", "flag", "choice", "axes", "training")


@dataclass
class Scope:
    """What a spec's arguments and weights are called, and what they become.

    `aliases` (an argument's own name for an operator's tensor) must be complete before `tensors` is asked for.
    """

    declared: Declarations
    constructor: tuple[Argument, ...]
    arguments: tuple[Argument, ...]
    weights: tuple[Weight, ...]
    errors: Errors
    used: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    """Some name is unknown or some stage unread, so what is missing or unused cannot be told."""

    @cached_property
    def flat(self) -> tuple[Argument, ...]:
        """Constructor and call arguments, list inputs flattened."""
        return tuple(e for a in (*self.constructor, *self.arguments) for e in (a.elements or (a,)))

    @cached_property
    def passed(self) -> tuple[Argument, ...]:
        """Every tensor that a caller passes."""
        return tuple(a for a in self.flat if a.role == "tensor")

    @cached_property
    def scalars(self) -> dict[str, Argument]:
        """Scalar names and where they come from: an argument itself, or one of a pair's two members."""
        found = {a.name: a for a in self.flat if a.role in SCALARS}
        return found | {name: a for a in self.flat if a.role == "sizes" for name in a.names}

    @cached_property
    def tensors(self) -> dict[str, tuple[str, ...]]:
        """Every tensor's canonical dims: the operator's, then arguments and weights that have another name."""
        found = dict(self.declared.tensors)
        for argument in self.passed:
            name = argument.feeds or argument.name
            if name not in found and argument.layouts:
                alias = self.aliases.get(name)
                found[name] = found[alias] if alias else argument.layouts[0].dims
        return found | {weight.name: weight.layout.dims for weight in self.weights if weight.name not in found}

    @cached_property
    def available(self) -> frozenset[str]:
        """The tensors that are there before any stage."""
        return frozenset({*(a.feeds or a.name for a in self.passed), *(w.name for w in self.weights)})

    @cached_property
    def bound(self) -> frozenset[str]:
        """The sizes that a call tells: those of layouts, and what derives from them and from scalars."""
        found: set[str] = {*self.scalars, *(dim for argument in self.flat for dim in argument.tells)}
        for dims, canonical in self._shapes():
            found |= {*dims, *paired_dims(dims, canonical)}
        for _ in self.declared.sizes:
            found |= {name for name, rule in self.declared.sizes.items() if names(rule) <= found}
        return frozenset(found)

    def _shapes(self) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
        tensors = self.tensors
        for argument in self.passed:
            for layout in argument.layouts:
                yield plain_dims(layout), tensors.get(argument.feeds or argument.name, ())
        for weight in self.weights:
            yield weight.layout.dims, weight.layout.dims

    def several(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """The dims without those that `[sizes]` says are 1: layouts need not have these."""
        return tuple(dim for dim in dims if self.declared.sizes.get(dim) != Number(1))

    @cached_property
    def sizes(self) -> dict[str, Expression]:
        """The derived sizes that this spec can tell."""
        return {name: rule for name, rule in self.declared.sizes.items() if names(rule) <= self.bound}

    def unknown(self, key: Key, text: str, name: str, known: Iterable[str], what: str = "name") -> None:
        """Note a name that nothing has."""
        self.broken = True
        self.errors.add(key, f"{column(text, name)}unknown {what} `{name}`.{did_you_mean(name, known)}")

    @cached_property
    def integers_of_one_axis(self) -> frozenset[str]:
        """The tensors in which `interval` may look a position up."""
        dtypes = self.declared.dtypes | {a.feeds or a.name: a.dtype for a in self.passed}
        return frozenset(name for name, dims in self.tensors.items() if len(dims) == 1 and dtypes.get(name) == "integer")

    @cached_property
    def sorts(self) -> Sorts:
        """Which names are predicates: flags and bool tensors; what may be either is both."""
        dtypes = self.declared.dtypes | {a.feeds or a.name: a.dtype for a in self.passed}
        found: dict[str, Sort] = {name: "predicate" for name, dtype in dtypes.items() if dtype in ("bool", "bool or number")}
        found |= {name: "either" for name, dtype in dtypes.items() if dtype == "bool or floating"}
        sorts: dict[str, Sort] = {"flag": "predicate", "training": "predicate", "choice": "text"}
        return Sorts(found | {name: sorts[a.role] for name, a in self.scalars.items() if a.role in sorts})

    def check_sort(self, expression: Expression, wanted: Sort, key: Key) -> None:
        """Note an expression, or a part of one, that is a number where a predicate is needed, or the reverse."""
        try:
            self.sorts.require(expression, wanted)
        except ExpressionError as error:
            self.errors.add(key, error.message)

    def check_guard(self, guard: Expression | None, key: Key, text: str | None, sizes: bool = False) -> None:
        """A guard names arguments (their own names, not the tensors they feed); a precondition also sizes."""
        if guard is None or text is None:
            return
        tensors = {a.name for a in self.passed}
        known = tensors | set(self.scalars) | {a.name for a in (*self.constructor, *self.arguments)}
        self.used |= names(guard)
        unknown = names(guard) - known - (self.bound if sizes else set())
        for name in sorted(unknown):
            self.unknown(key, text, name, known, "argument" if not sizes else "argument or size")
        self.check_calls(guard, key, text, tensors)
        self.check_choices(guard, key, text)
        if not unknown:
            self.check_sort(guard, "predicate", key)

    def check_choices(self, guard: Expression, key: Key, text: str) -> None:
        """A text is one of the choices of the argument that it is compared with."""
        for node in walk(guard):
            match node:
                case Binary("==" | "!=", Name(name), Text(value)) if name in self.scalars and self.scalars[name].choices:
                    choices = self.scalars[name].choices
                    if value not in choices:
                        wanted = f"expected {alternatives(choices)}, got {described(value)}.{did_you_mean(value, choices)}"
                        self.errors.add(key, f"{column(text, value)}{wanted}")

    def check_calls(self, guard: Expression, key: Key, text: str, tensors: set[str]) -> None:
        """In a guard tensors are only asked about: their rank, their dtype, whether they are there."""
        asked: set[str] = set()
        for node in walk(guard):
            match node:
                case Call(function, arguments) if function in GUARD_FUNCTIONS:
                    asked |= {id_ for argument in arguments for id_ in names(argument)}
                    for name in (a.name for a in arguments if isinstance(a, Name)):
                        if name not in tensors and function != "given":
                            self.errors.add(key, f"{column(text, name)}`{function}` takes a tensor, got `{name}`")
                case IsNone(name):
                    asked.add(name)
                case Access() | Sum() | Concat() | Call("interval", _):
                    self.errors.add(key, "a guard cannot look into tensors; it decides on arguments alone")
        for name in sorted(names(guard) & tensors - asked):
            asking = f"a guard asks `{name} is not None` or `rank({name})`"
            self.errors.add(key, f"{column(text, name)}`{name}` is a tensor; {asking}")

    def check_scalar(self, expression: Expression | None, key: Key, text: str | None) -> None:
        """A default names sizes and scalars."""
        if expression is not None and text is not None:
            self.used |= names(expression)
            for name in sorted(names(expression) - self.bound):
                self.unknown(key, text, name, self.bound)
            self.check_sort(expression, "number", key)


def plain_dims(layout: Layout) -> tuple[str, ...]:
    """The dims that a layout tells the size of."""
    batch = ("B",) if layout.batched else ()
    return (*batch, *(dim for axis in layout.axes if not axis.or_one for dim in axis.dims))


def free_indices(expression: Expression, tensors: Mapping[str, tuple[str, ...]], indices: frozenset[str]) -> frozenset[str]:
    """The indices an expression varies over: a bare tensor name varies over all of the tensor's own."""
    match expression:
        case Name(name) if name in tensors:
            return frozenset(dim.lower() for dim in tensors[name])
        case Name(name):
            return frozenset({name}) & indices
        case Sum(index, body):
            return free_indices(body, tensors, indices) - {index}
        case Concat():
            return frozenset()
        case Call("interval", (_, position)):
            return free_indices(position, tensors, indices)
        case Access(_, parts) | Call(_, parts):
            inner = parts
        case _:
            inner = tuple(getattr(expression, side) for side in ("left", "right", "operand") if hasattr(expression, side))
    return frozenset().union(*(free_indices(part, tensors, indices) for part in inner))
