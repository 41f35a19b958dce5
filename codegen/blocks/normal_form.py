"""A predicate as a disjunction of conjunctions. Its atoms are bounds, `value <= 0` over whole numbers, and literals.

The negation of a predicate is taken here as well, so that nothing after it needs a `not`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
    forms = [normal_form(vocabulary.written_out(predicate), holds, vocabulary) for predicate in predicates]
    return reduce(_both if holds else _either, forms, ALWAYS if holds else ())


def normal_form(predicate: Expression, holds: bool, vocabulary: Vocabulary) -> Disjunction:
    """Where the predicate holds, or where it does not."""

    def form(part: Expression, positive: bool) -> Disjunction:
        return normal_form(part, positive == holds, vocabulary)

    match predicate:
        case Unary("not", operand):
            return form(operand, False)
        case Binary("and", left, right):
            return (_both if holds else _either)(form(left, True), form(right, True))
        case Binary("or", left, right):
            return (_either if holds else _both)(form(left, True), form(right, True))
        case Binary("==" | "!=" as operator, left, right) if vocabulary.is_predicate(left):
            equal = holds == (operator == "==")
            same, other = (normal_form(right, side, vocabulary) for side in (equal, not equal))
            return _either(_both(normal_form(left, True, vocabulary), same), _both(normal_form(left, False, vocabulary), other))
        case Call("where", (condition, one, other_one)) if vocabulary.is_predicate(one):
            return _either(
                _both(normal_form(condition, True, vocabulary), form(one, True)),
                _both(normal_form(condition, False, vocabulary), form(other_one, True)),
            )
        case Binary(operator, left, right) if operator in _OPPOSITE and _whole(vocabulary, left, right):
            return _comparison(operator if holds else _OPPOSITE[operator], affine(left) - affine(right))
    return ((Literal(predicate, holds),),)


_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _whole(vocabulary: Vocabulary, *sides: Expression) -> bool:
    return all(map(vocabulary.is_integer, sides))


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
    return tuple(dict.fromkeys((*left, *right)))


def _both(left: Disjunction, right: Disjunction) -> Disjunction:
    """The product of two disjunctions; a part that would make it too long is left out, which makes it weaker, never wrong."""
    if len(left) * len(right) > MAX_CONJUNCTIONS:
        return min(left, right, key=len)
    return tuple(dict.fromkeys(tuple(dict.fromkeys((*one, *two))) for one, two in pairs(left, right)))
