"""What the names in a mask's predicate stand for: whole numbers, predicates, tensors, and signs that are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations

from attnspec.codegen.blocks.affine import Affine, affine
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Unary, children, walk
from attnspec.spec.model import Spec

START, STOP, LOW, HIGH = map(Name, ("start", "stop", "low", "high"))
"""A block holds the queries `start <= t < stop` and the keys `low <= s < high`."""
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True)
class Vocabulary:
    """`least` has lower bounds of whole numbers; `tensors` the indices of tensors, by name.

    `within` are the indices that run inside a block besides t and s: where one loop serves every batch row, b does. `ordered`
    are the tensors whose entries never fall: those in which `interval` looks positions up.
    """

    integers: frozenset[str] = frozenset()
    predicates: frozenset[str] = frozenset()
    tensors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
    within: frozenset[str] = frozenset()
    ordered: frozenset[str] = frozenset()

    def over(self, letters: Iterable[str]) -> Vocabulary:
        """The same where these indices run inside a block too."""
        return replace(self, within=frozenset(letters))

    def knowing(self, predicates: Iterable[str]) -> Vocabulary:
        """The same with more flags."""
        return replace(self, predicates=self.predicates | frozenset(predicates))

    def written_out(self, expression: Expression) -> Expression:
        """A bare tensor with its indices: `mask[b, n, t, s]` for `mask`."""
        match expression:
            case Name(name) if name in self.tensors:
                return Access(name, tuple(map(Name, self.tensors[name])))
            case Unary(operator, operand):
                return Unary(operator, self.written_out(operand))
            case Binary(operator, left, right):
                return Binary(operator, self.written_out(left), self.written_out(right))
            case Call("interval", (bounds, position)):
                return Call("interval", (bounds, self.written_out(position)))
            case Call(function, arguments):
                return Call(function, tuple(map(self.written_out, arguments)))
        return expression

    def is_predicate(self, expression: Expression) -> bool:
        match expression:
            case Name(name) | Access(name, _):
                return name in self.predicates
            case Unary(operator, _) | Binary(operator, _, _):
                return operator in ("not", "and", "or", *_COMPARISONS)
            case Call("where", (_, one, _)):
                return self.is_predicate(one)
        return False

    def is_integer(self, expression: Expression) -> bool:
        """Whether a number is whole, so that `<` says what `<= ... - 1` does. Floats round, and are tested one by one."""
        match expression:
            case Number(value):
                return isinstance(value, int)
            case Name(name):
                return name in self.integers
            case Access(name, indices):
                return name in self.integers and all(map(self.is_integer, indices))
            case Unary("-", operand) | Call("floor", (operand,)):
                return self.is_integer(operand)
            case Binary("+" | "-" | "*" | "//" | "%", left, right):
                return self.is_integer(left) and self.is_integer(right)
            case Call("min" | "max" | "abs" | "interval", arguments):
                return all(map(self.is_integer, arguments))
            case Call("where", (condition, one, other)):
                return self.is_predicate(condition) and self.is_integer(one) and self.is_integer(other)
        return False

    def varies(self, expression: Expression) -> bool:
        """Whether the value may differ between the pairs of a block."""
        if isinstance(expression, Name):
            return expression.name in self.within | {"t", "s"}
        return any(map(self.varies, children(expression)))

    def never_negative(self, value: Affine) -> bool:
        """Whether the value is known to be 0 or more: blocks are not empty, sizes and what has a `least` are not below it."""
        value = self.without_quotients(value).replaced(STOP, _end_of(START)).replaced(HIGH, _end_of(LOW))
        least = value.constant
        for term, coefficient in value.terms:
            bound = self.lower_bound(term)
            if bound is None or coefficient < 0:
                return False
            least += coefficient * bound
        return least >= 0

    def without_quotients(self, value: Affine) -> Affine:
        """Without differences `x // m - y // m` that are not negative because x is at least y."""
        for one, other in permutations(value.terms, 2):
            match one, other:
                case (Binary("//", x, m), 1), (Binary("//", y, n), -1) if m == n and self.is_positive(m):
                    if self.never_negative(affine(x) - affine(y)):
                        return value - Affine((one, other))
        return value

    def lower_bound(self, term: Expression) -> int | None:
        match term:
            case Name(name):
                return 0 if name in _NOT_NEGATIVE else self.least.get(name)
            case Binary("%", _, divisor) if self.is_positive(divisor):
                return 0
        return None

    def is_positive(self, divisor: Expression) -> bool:
        match divisor:
            case Number(value):
                return value > 0
            case Name(name):
                return self.least.get(name, 0) > 0
        return False


_NOT_NEGATIVE = ("start", "low", "rest of start", "rest of low")


def _end_of(first: Name) -> Affine:
    """The end of a block that begins at `first`: it holds one element, and perhaps more."""
    return Affine(((first, 1), (Name(f"rest of {first.name}"), 1)), 1)


def vocabulary_of(spec: Spec) -> Vocabulary:
    """The vocabulary of a spec's own predicates."""
    operands = {a.feeds or a.name: a.dtype for a in spec.tensor_arguments}
    scalars = [(name, a.role) for a in (*spec.constructor, *spec.arguments) for name in (a.names or (a.name,))]
    dims = {dim for tensor in spec.tensors.values() for dim in tensor} | {*spec.sizes}
    letters = dims | {dim.lower() for dim in dims}
    limits = dict(limit for precondition in spec.preconditions for limit in _limits(precondition.requires))
    whole = {name for name, role in scalars if role in ("integer", "sizes")} | {
        n for n, d in operands.items() if d == "integer"
    }
    return Vocabulary(
        integers=frozenset(whole | (letters - {name for name, _ in scalars})),
        predicates=frozenset({n for n, role in scalars if role == "flag"} | {n for n, d in operands.items() if "bool" in d}),
        tensors={name: tuple(dim.lower() for dim in axes) for name, axes in spec.tensors.items()},
        least=dict.fromkeys(letters, 0) | limits,
        ordered=frozenset(_ordered(spec)),
    )


def _ordered(spec: Spec) -> Iterator[str]:
    """The tensors that `interval` is asked of."""
    for stage in (stage for path in spec.paths for stage in path.stages):
        for node in walk(stage.expression):
            match node:
                case Call("interval", (Name(bounds), _)):
                    yield bounds


def _limits(requires: Expression) -> Iterator[tuple[str, int]]:
    """What a precondition says of a name alone: `stride >= 1`."""
    match requires:
        case Binary("and", left, right):
            yield from _limits(left)
            yield from _limits(right)
        case Binary(">=", Name(name), Number(int(value))):
            yield name, value
        case Binary(">", Name(name), Number(int(value))):
            yield name, value + 1
