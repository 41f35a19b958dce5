"""A predicate as a disjunction of conjunctions. Its atoms are bounds, `value <= 0` over whole numbers, and literals.

The negation of a predicate is taken here as well, so that nothing after it needs a `not`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from itertools import product as pairs

from attnspec.codegen.blocks.affine import Affine, affine
from attnspec.codegen.blocks.vocabulary import Vocabulary
from attnspec.spec.expression import Binary, Call, Expression, Unary

MAX_CONJUNCTIONS = 64


@dataclass(frozen=True, slots=True)
class Bound:
    """`value <= 0`."""

    value: Affine


@dataclass(frozen=True, slots=True)
class Literal:
    """A predicate that is looked up or cannot be bounded: a flag, an entry of a tensor, a comparison of floats."""

    expression: Expression
    holds: bool


Atom = Bound | Literal
Conjunction = tuple[Atom, ...]
Disjunction = tuple[Conjunction, ...]

ALWAYS: Disjunction = ((),)


def conjunction_of(predicates: Iterable[Expression], holds: bool, vocabulary: Vocabulary) -> Disjunction:
    """The normal form of "all predicates hold", or of its negation."""
    normal = _Normal(vocabulary)
    forms = [normal.form(vocabulary.written_out(predicate), holds) for predicate in predicates]
    return reduce(_both if holds else _either, forms, ALWAYS if holds else ())


@dataclass
class _Normal:
    """Normal forms of predicates and of their negations; each is worked out once, for `==` needs both of both sides."""

    vocabulary: Vocabulary
    known: dict[tuple[Expression, bool], Disjunction] = field(default_factory=dict)

    def form(self, predicate: Expression, holds: bool) -> Disjunction:
        """Where the predicate holds, or where it does not."""
        key = (predicate, holds)
        if key not in self.known:
            self.known[key] = self.made(predicate, holds)
        return self.known[key]

    def made(self, predicate: Expression, holds: bool) -> Disjunction:
        match predicate:
            case Unary("not", operand):
                return self.form(operand, not holds)
            case Binary("and" | "or" as word, left, right):
                join = _both if holds == (word == "and") else _either
                return join(self.form(left, holds), self.form(right, holds))
            case Binary("==" | "!=" as operator, left, right) if self.vocabulary.is_predicate(left):
                equal = holds == (operator == "==")
                return _either(*(_both(self.form(left, side), self.form(right, side == equal)) for side in (True, False)))
            case Call("where", (condition, *branches)) if self.vocabulary.is_predicate(branches[0]):
                sides = zip((True, False), branches, strict=True)
                return _either(*(_both(self.form(condition, side), self.form(branch, holds)) for side, branch in sides))
            case Binary(operator, left, right) if operator in _OPPOSITE and self.are_whole(left, right):
                return _comparison(operator if holds else _OPPOSITE[operator], affine(left) - affine(right))
        return ((Literal(predicate, holds),),)

    def are_whole(self, *sides: Expression) -> bool:
        return all(map(self.vocabulary.is_integer, sides))


_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _comparison(operator: str, difference: Affine) -> Disjunction:
    """`difference < 0` and its like, as bounds."""
    below, above = Bound(difference), Bound(difference.scaled(-1))
    under, over = Bound(difference.shifted(1)), Bound(difference.scaled(-1).shifted(1))
    forms: dict[str, Disjunction] = {
        "<=": ((below,),), "<": ((under,),), ">=": ((above,),), ">": ((over,),), "==": ((below, above),),
        "!=": ((under,), (over,)),
    }  # fmt: skip
    return forms[operator]


def _either(left: Disjunction, right: Disjunction) -> Disjunction:
    """The union of two disjunctions; anything at all where it would be too long."""
    joined = tuple(dict.fromkeys((*left, *right)))
    return joined if len(joined) <= MAX_CONJUNCTIONS else ALWAYS


def _both(left: Disjunction, right: Disjunction) -> Disjunction:
    """The product of two disjunctions; where it would be too long, the shorter one alone, which is weaker and never wrong."""
    if len(left) * len(right) > MAX_CONJUNCTIONS:
        return min(left, right, key=len)
    return tuple(dict.fromkeys(tuple(dict.fromkeys((*one, *two))) for one, two in pairs(left, right)))
