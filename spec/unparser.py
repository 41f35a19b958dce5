"""Expression to text that parses back to the same tree, with no bracket that is not needed."""

from __future__ import annotations

from attnspec.spec.nodes import Access, Binary, Call, Concat, Expression, IsNone, Name, Number, Sum, Text, Unary

_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(9)
_LEVELS = {
    "or": _OR, "and": _AND, "<": _COMPARE, "<=": _COMPARE, ">": _COMPARE, ">=": _COMPARE, "==": _COMPARE, "!=": _COMPARE,
    "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "//": _PRODUCT, "%": _PRODUCT, "**": _POWER,
}  # fmt: skip


def to_text(expression: Expression) -> str:
    """The expression as Python would write it."""
    return _text(expression, _OR)


def _text(expression: Expression, least: int) -> str:
    """The text, in brackets where it binds weaker than `least`."""
    level, text = _written(expression)
    return f"({text})" if level < least else text


def _written(expression: Expression) -> tuple[int, str]:
    match expression:
        case Number(value):
            return (_ATOM if value >= 0 else _SIGN), repr(value)
        case Text(value):
            return _ATOM, repr(value)
        case Name(name):
            return _ATOM, name
        case IsNone(name):
            return _COMPARE, f"{name} is None"
        case Unary("not", IsNone(name)):
            return _COMPARE, f"{name} is not None"
        case Unary("not", operand):
            return _NOT, f"not {_text(operand, _NOT)}"
        case Unary(_, operand):
            return _SIGN, f"-{_text(operand, _SIGN)}"
        case Binary():
            return _binary(expression)
        case Access(tensor, indices):
            return _ATOM, f"{tensor}[{_list(indices)}]"
        case Call(function, arguments):
            return _ATOM, f"{function}({_list(arguments)})"
        case Sum(index, body):
            return _ATOM, f"sum({index}, {to_text(body)})"
        case Concat(index, parts):
            return _ATOM, f"concat({index}, {_list(parts)})"


def _binary(expression: Binary) -> tuple[int, str]:
    level = _LEVELS[expression.operator]
    if level == _POWER:  # binds its left tighter and its right looser than a sign: -x ** 2 is -(x ** 2), x ** -2 needs none
        return level, f"{_text(expression.left, _ATOM)} ** {_text(expression.right, _SIGN)}"
    left = level + 1 if level == _COMPARE else level
    return level, f"{_text(expression.left, left)} {expression.operator} {_text(expression.right, level + 1)}"


def _list(parts: tuple[Expression, ...]) -> str:
    return ", ".join(map(to_text, parts))
