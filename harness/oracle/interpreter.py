"""Expressions of a spec to steps: each node of the tree becomes array operations over index grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from attnspec.harness.error_bounds import Array, Units
from attnspec.harness.oracle.dual import Node, Slot, Step, ordered
from attnspec.harness.oracle.elementwise import Add, Affine, Choose, Divide, Function, Multiply, Spread
from attnspec.harness.oracle.movement import Constant, Gather, Total
from attnspec.harness.oracle.product import product
from attnspec.harness.oracle.terms import (
    FUNCTIONS,
    OPERATORS,
    Exact,
    Fixed,
    Term,
    aligned_shape,
    apply,
    letters_of,
    on_axes,
)
from attnspec.spec.expression import Access, Binary, Call, Expression, IsNone, Name, Number, Sum, Unary, to_text


@dataclass
class Interpreter:
    """Compiles the expressions of one configuration.

    Of a stage: `unit` is the roundoff of the dtype that it works in, `operand` and `stored` what a product may round its
    operands and its result to (see `Product`).
    """

    tensors: dict[str, Term]
    canonical: Mapping[str, tuple[str, ...]]
    scalars: Mapping[str, Any]
    sizes: dict[str, int]
    units: Units
    given: Callable[[str], bool]
    unit: float = 0.0
    operand: float = 0.0
    stored: float = 0.0
    weighs: bool = False
    nodes: list[Node] = field(default_factory=list)
    slots: int = 0

    # -- slots ----------------------------------------------------------------------------------------------------

    def slot(self, axes: tuple[str, ...], shape: tuple[int, ...]) -> Slot:
        """A new slot."""
        self.slots += 1
        return Slot(self.slots - 1, axes, shape)

    def emit(self, step: Step, inputs: Sequence[Slot], axes: tuple[str, ...], shape: tuple[int, ...]) -> Slot:
        """A node with one new slot as its output."""
        result = self.slot(axes, shape)
        self.nodes.append(Node(step, tuple(each.number for each in inputs), (result.number,)))
        return result

    def lifted(self, term: Term) -> Slot:
        """The term as a slot."""
        if isinstance(term, Slot):
            return term
        if isinstance(term, Exact):
            raise ValueError("an integer or boolean tensor cannot take part in arithmetic")
        return self.emit(Constant(np.asarray(term.value, np.float64)), (), term.axes, term.shape)

    def spread(self, term: Slot, axes: tuple[str, ...], shape: tuple[int, ...]) -> Spread:
        """How a slot lines up with a result of these axes and this shape."""
        own = aligned_shape(term, axes)
        summed = tuple(axis for axis, (one, full) in enumerate(zip(own, shape, strict=True)) if one != full)
        count = int(np.prod([shape[axis] for axis in summed], dtype=np.int64))
        return Spread(term.shape, own, summed, count, self.units)

    def expanded(self, term: Slot, axes: tuple[str, ...]) -> Slot:
        """The slot with all of `axes` at their full sizes."""
        shape = tuple(self.sizes[letter[0]] if len(letter) == 1 else 1 for letter in axes)
        if term.axes == axes and term.shape == shape:
            return term
        return self.emit(Affine(np.ones(shape), 0.0, self.spread(term, axes, shape), 0.0), [term], axes, shape)

    # -- expressions ----------------------------------------------------------------------------------------------

    def term(self, expression: Expression) -> Term:
        """What an expression means. ValueError where it means nothing here."""
        match expression:
            case Number(value):
                return Fixed((), np.asarray(value))
            case Name(name):
                return self.name(name)
            case IsNone(name):
                return Fixed((), np.asarray(not self.given(name)))
            case Access(tensor, indices):
                return self.access(tensor, indices)
            case Unary("not", operand):
                return self.exact(np.logical_not, [self.term(operand)], expression)
            case Unary(_, operand):
                return self.negative(self.term(operand))
            case Binary(operator, left, right):
                return self.binary(operator, self.term(left), self.term(right), expression)
            case Call("interval", (Name(tensor), position)):
                return self.interval(tensor, self.term(position), expression)
            case Call(function, arguments):
                return self.call(function, [self.term(argument) for argument in arguments], expression)
            case Sum():
                return self.sum(expression)
        raise ValueError(f"`{to_text(expression)}` has no meaning here")

    def name(self, name: str) -> Term:
        """A tensor at its canonical indices, a size, an index, a scalar."""
        if name in self.tensors:
            return self.tensors[name]
        if name in self.scalars and not (len(name) == 1 and name.lower() in self.sizes):
            return Fixed((), np.asarray(self.scalars[name]))
        if len(name) == 1 and name.isupper() and name.lower() in self.sizes:
            return Fixed((), np.asarray(self.sizes[name.lower()]))
        if len(name) == 1 and name in self.sizes:
            return Fixed((name,), np.arange(self.sizes[name]))
        if name in self.scalars:
            return Fixed((), np.asarray(self.scalars[name]))
        raise ValueError(f"`{name}` has no value here")

    def exact(self, function: Callable[..., Any], terms: Sequence[Term], expression: Expression) -> Fixed | Exact:
        """A function whose operands must be exact."""
        plain = [term for term in terms if not isinstance(term, Slot)]
        if len(plain) != len(terms):
            raise ValueError(f"`{to_text(expression)}` takes integers or booleans, not floating tensors")
        return apply(function, plain)

    def negative(self, operand: Term) -> Term:
        """`-x`."""
        if isinstance(operand, Slot):
            return self.emit(Function("negative", 0.0), [operand], operand.axes, operand.shape)
        return apply(np.negative, [operand])

    def binary(self, operator: str, left: Term, right: Term, expression: Expression) -> Term:
        """An operator on two terms."""
        if not isinstance(left, Slot) and not isinstance(right, Slot):
            return apply(OPERATORS[operator], [left, right])
        if operator == "*" and isinstance(right, Slot) and isinstance(left, Fixed):
            return self.scaled(right, left)
        if operator in "*/" and isinstance(left, Slot) and isinstance(right, Fixed):
            return self.scaled(left, right if operator == "*" else Fixed(right.axes, 1.0 / right.value))
        if operator == "**" and isinstance(left, Slot) and isinstance(right, Fixed):
            return self.power(left, right, expression)
        axes, shape = self.joint([left, right])
        one, two = self.lifted(left), self.lifted(right)
        spreads = self.spread(one, axes, shape), self.spread(two, axes, shape)
        steps: dict[str, Callable[[], Step]] = {
            "+": lambda: Add(1, *spreads, self.unit, self.units.accumulate),
            "-": lambda: Add(-1, *spreads, self.unit, self.units.accumulate),
            "*": lambda: Multiply(*spreads, self.unit),
            "/": lambda: Divide(*spreads, self.unit),
        }
        if operator not in steps:
            raise ValueError(f"`{to_text(expression)}`: `{operator}` is not defined for floating tensors")
        return self.emit(steps[operator](), [one, two], axes, shape)

    def joint(self, terms: Sequence[Term]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Axes and shape of what several terms make together."""
        axes = letters_of(terms)
        return axes, np.broadcast_shapes(*(aligned_shape(term, axes) for term in terms))

    def scaled(self, operand: Slot, factor: Fixed) -> Slot:
        """A slot times a constant, which an implementation rounds unless it is an integer."""
        axes, shape = self.joint([operand, factor])
        value = factor.value.reshape(aligned_shape(factor, axes))
        whole = bool(np.all(value == np.rint(value)))
        number: Any = float(value.reshape(())) if value.size == 1 else np.asarray(value, np.float64)
        step = Affine(number, 0.0 if whole else 2 * self.unit, self.spread(operand, axes, shape), self.unit)
        return self.emit(step, [operand], axes, shape)

    def power(self, base: Slot, exponent: Fixed, expression: Expression) -> Slot:
        """A small whole power, as a product."""
        count = int(exponent.value.reshape(())) if exponent.value.size == 1 else 0
        if not 1 <= count <= 8 or count != exponent.value:
            raise ValueError(f"`{to_text(expression)}`: a floating tensor takes whole powers from 1 to 8")
        result: Term = base
        for _ in range(count - 1):
            result = self.binary("*", result, base, expression)
        return self.lifted(result)

    def call(self, function: str, terms: Sequence[Term], expression: Expression) -> Term:
        """A function of terms."""
        if function not in FUNCTIONS:
            raise ValueError(f"`{function}` belongs into a guard: `{to_text(expression)}`")
        if not any(isinstance(term, Slot) for term in terms):
            return self.exact(FUNCTIONS[function], terms, expression)
        if function == "where":
            return self.choose(terms[0], terms[1], terms[2])
        if function in ("min", "max", "floor"):
            raise ValueError(f"`{to_text(expression)}`: `{function}` is not defined for floating tensors")
        operand = self.lifted(terms[0])
        return self.emit(Function(function, self.unit), [operand], operand.axes, operand.shape)

    def interval(self, tensor: str, position: Term, expression: Expression) -> Term:
        """How many entries of a sorted tensor are at most the position, without the first."""
        bounds = self.tensors.get(tensor)
        if not isinstance(bounds, Exact) or len(bounds.axes) != 1 or isinstance(position, Slot):
            raise ValueError(f"`{to_text(expression)}`: it takes a tensor of integers with one axis, and an exact position")
        where = on_axes(position, position.axes)

        def found(arrays: Mapping[str, Array]) -> Array:
            wanted = np.asarray(where(arrays) if callable(where) else where)
            return np.asarray((bounds.value(arrays) <= wanted[..., None]).sum(axis=-1) - 1)

        return Exact(position.axes, position.shape, found)

    def choose(self, condition: Term, left: Term, right: Term) -> Slot:
        """`where(condition, x, y)`."""
        if isinstance(condition, Slot):
            raise ValueError("the condition of `where` must not be a floating tensor")
        axes, shape = self.joint([condition, left, right])
        one, two = self.lifted(left), self.lifted(right)
        step = Choose(on_axes(condition, axes), self.spread(one, axes, shape), self.spread(two, axes, shape))
        return self.emit(step, [one, two], axes, shape)

    # -- access and sums ------------------------------------------------------------------------------------------

    def access(self, tensor: str, indices: Sequence[Expression]) -> Term:
        """`x[i, j]`: the tensor itself where the indices are its own letters, a gather otherwise."""
        term = self.tensors.get(tensor)
        if term is None:
            raise ValueError(f"tensor `{tensor}` is not defined here")
        own = tuple(dim.lower() for dim in self.canonical[tensor])
        letters = tuple(index.name if isinstance(index, Name) else "" for index in indices)
        if letters == own:
            return term
        return self.renamed(term, dict(zip(own, letters, strict=True))) or self.gather(term, own, indices)

    def renamed(self, term: Term, letters: Mapping[str, str]) -> Slot | None:
        """The same slot where the indices are other letters of the same sizes, and leave its axes in order."""
        if not isinstance(term, Slot) or not all(letters.values()):
            return None
        axes = tuple(letters[axis] for axis in term.axes)
        if axes != ordered(axes) or any(self.sizes.get(axis) != size for axis, size in zip(axes, term.shape, strict=True)):
            return None
        return replace(term, axes=axes)

    def gather(self, term: Term, own: tuple[str, ...], indices: Sequence[Expression]) -> Term:
        """The tensor at computed indices. An axis of size 1 broadcasts: its index is 0."""
        grids = [self.exact(lambda x: x, [self.term(index)], index) for index in indices]
        by_letter = dict(zip(own, grids, strict=True))
        lengths = dict(zip(term.axes, term.shape, strict=True))
        axes = letters_of(grids)
        shape = np.broadcast_shapes((1,) * len(axes), *(aligned_shape(grid, axes) for grid in grids))
        whole = [on_axes(_pinned(by_letter[letter], lengths[letter], self.sizes), axes) for letter in term.axes]

        def where(arrays: Mapping[str, Array]) -> tuple[Array, ...]:
            return tuple(grid(arrays) if callable(grid) else grid for grid in whole)

        if isinstance(term, Slot):
            return self.emit(Gather(where, term.shape, shape, self.units), [term], axes, shape)
        if isinstance(term, Fixed):
            raise ValueError("only a tensor can be indexed")
        value = term.value
        return Exact(axes, shape, lambda arrays: np.broadcast_to(value(arrays)[where(arrays)], shape))

    def sum(self, expression: Sum) -> Term:
        """`sum(i, x * y)` as one matrix product; any other sum over the whole grid."""
        contracted, body = [expression.index], expression.body
        while isinstance(body, Sum):
            contracted.append(body.index)
            body = body.body
        if isinstance(body, Binary) and body.operator == "*":
            grouped: dict[str, int] = {}
            left, right = self.factor(body.left, grouped), self.factor(body.right, grouped)
            if isinstance(left, Slot) and isinstance(right, Slot) and self.contracts(left, right, [*contracted, *grouped]):
                return self.product(left, right, contracted, grouped)
            if grouped:
                left, right = self.term(body.left), self.term(body.right)
            result = self.binary("*", left, right, body)
        else:
            result = self.term(body)
        return reduce(self.total, contracted, result)

    def contracts(self, left: Slot, right: Slot, letters: Sequence[str]) -> bool:
        """Whether both factors have every letter, a grouped one as a whole or as its outer part."""
        return all({x, x + "0"} & {*left.axes} and {x, x + "0"} & {*right.axes} for x in letters)

    def factor(self, expression: Expression, grouped: dict[str, int]) -> Term:
        """A factor of a product; `key[..., n // G, ...]` keeps its axis, which becomes the outer part of `n`."""
        if isinstance(expression, Access) and isinstance(self.tensors.get(expression.tensor), Slot):
            term = self.tensors[expression.tensor]
            own = tuple(dim.lower() for dim in self.canonical[expression.tensor])
            found = [self.outer(index, dict(zip(term.axes, term.shape, strict=True))[letter])
                     for index, letter in zip(expression.indices, own, strict=True)]  # fmt: skip
            plain = [f or (i.name if isinstance(i, Name) else "") for f, i in zip(found, expression.indices, strict=True)]
            names = dict(zip(own, plain, strict=True))
            halves = [f for f in found if f]
            kept = all(names[letter] == letter or names[letter] in halves for letter in own)
            if len(halves) == 1 and kept and isinstance(term, Slot):
                letter = halves[0][0]
                length = dict(zip(own, term_lengths(term, own), strict=True))[next(x for x in own if names[x] == halves[0])]
                grouped[letter] = self.sizes[letter] // max(length, 1)
                return replace(term, axes=tuple(names[x] for x in term.axes))
        return self.term(expression)

    def outer(self, index: Expression, length: int) -> str:
        """`n0` where the index is `n // G` and G groups of `length` make up n; otherwise nothing."""
        match index:
            case Binary("//", Name(letter), divisor) if len(letter) == 1 and letter in self.sizes:
                by = self.term(divisor)
                if isinstance(by, Fixed) and by.value.size == 1 and int(by.value) * length == self.sizes[letter]:
                    return letter + "0"
        return ""

    def product(self, left: Slot, right: Slot, contracted: Sequence[str], grouped: Mapping[str, int]) -> Slot:
        """The matrix product of two slots, axes of size 1 expanded first."""
        left, right = self.widened(left), self.widened(right)
        number = self.slots
        step, axes, shape = product(
            left, right, contracted, grouped, self.units,
            operand=self.operand, stored=self.stored, weighs=self.weighs, number=number,
        )  # fmt: skip
        return self.emit(step, [left, right], axes, shape)

    def widened(self, term: Slot) -> Slot:
        """The slot with broadcast axes of size 1 at full size."""
        if any(len(x) == 1 and self.sizes[x] != length for x, length in zip(term.axes, term.shape, strict=True)):
            return self.expanded(term, term.axes)
        return term

    def total(self, term: Term, letter: str) -> Term:
        """The sum over one index."""
        if letter not in term.axes:
            raise ValueError(f"`sum({letter}, ...)`: nothing in it has the index `{letter}`")
        axis = term.axes.index(letter)
        rest = term.axes[:axis] + term.axes[axis + 1 :]
        if not isinstance(term, Slot):
            raise ValueError(f"`sum({letter}, ...)` is for floating tensors")
        term = self.widened(term)
        step = Total(axis, term.shape, self.units, self.stored or self.unit)
        return self.emit(step, [term], rest, term.shape[:axis] + term.shape[axis + 1 :])


def term_lengths(term: Slot, own: Sequence[str]) -> list[int]:
    """The lengths of a slot's axes in the order of its canonical dims."""
    lengths = dict(zip(term.axes, term.shape, strict=True))
    return [lengths[letter] for letter in own]


def _pinned(grid: Fixed | Exact, length: int, sizes: Mapping[str, int]) -> Fixed | Exact:
    """Index 0 into an axis of size 1 that a plain letter of another size runs over."""
    plain = isinstance(grid, Fixed) and len(grid.axes) == 1 and grid.value.size == sizes.get(grid.axes[0])
    if length == 1 and plain and isinstance(grid, Fixed) and np.array_equal(grid.value, np.arange(grid.value.size)):
        return Fixed(grid.axes, np.zeros_like(grid.value))
    return grid


__all__ = ["Interpreter", "ordered"]
