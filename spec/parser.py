"""Text to expression: a scan that refuses what is hostile, then Python's `ast`, then a closed set of nodes.

The scan (`scanner.py`) comes first because `ast.parse` itself can be made slow, deep or large by its input.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from attnspec.spec.nodes import (
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
    Unary,
    depth,
)
from attnspec.spec.scanner import MAX_DEPTH, scan
from attnspec.spec.suggestions import did_you_mean

MAX_EXPONENT = 16

ELEMENTWISE = ("floor", "min", "max", "exp", "log", "tanh", "sigmoid", "where", "abs")
GUARD_FUNCTIONS = ("rank", "is_boolean", "is_floating", "same", "given", "folded")
FUNCTIONS = (*ELEMENTWISE, *GUARD_FUNCTIONS, "interval", "sum", "concat")

_COUNTS = {"where": 3, "same": 2, "interval": 2}
_MANY = ("min", "max")

_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.And: "and", ast.Or: "or",
}  # fmt: skip


def parse(text: str) -> Expression:
    """The expression that `text` writes. Raises ExpressionError, quickly for any text."""
    scan(text)
    flat = re.sub(r"\s", " ", text)
    tree = _tree(flat.strip(), column=len(flat) - len(flat.lstrip()))
    expression = _Converter(len(flat) - len(flat.lstrip())).root(tree)
    if depth(expression) > MAX_DEPTH:  # a chain of `and` is flat for `ast`, and deep for us
        raise ExpressionError(f"nested deeper than {MAX_DEPTH}")
    return expression


def _tree(text: str, column: int) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        message = "a bracket is not closed" if "never closed" in error.msg else "not a complete expression"
        raise ExpressionError(message, column + min(error.offset or len(text) + 1, len(text) + 1)) from None
    except (MemoryError, RecursionError, ValueError):
        raise ExpressionError(f"nested deeper than {MAX_DEPTH}") from None


@dataclass
class _Converter:
    """`ast` nodes to ours. Columns are moved by `shift`, the blanks that were cut off."""

    shift: int

    def fail(self, message: str, node: ast.expr) -> NoReturn:
        raise ExpressionError(message, self.shift + node.col_offset + 1)

    def root(self, node: ast.expr) -> Expression:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "concat":
            return self.concat(node)
        return self.expression(node, 1)

    def expression(self, node: ast.expr, level: int) -> Expression:
        if level > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}", node)
        convert = _CONVERTERS.get(type(node))
        if convert is None:
            self.fail(f"{_WRITTEN.get(type(node), 'this')} is not part of the language", node)
        return convert(self, node, level + 1)

    def constant(self, node: ast.Constant, level: int) -> Expression:
        if isinstance(node.value, bool):
            self.fail(f"`{node.value}` is not part of the language; write `x` or `not x`", node)
        if node.value is None:
            self.fail("`None` is only allowed in `x is None` and `x is not None`", node)
        if isinstance(node.value, str):
            return Text(node.value)
        if not isinstance(node.value, (int, float)):
            self.fail("expected a number", node)
        return Number(node.value)

    def name(self, node: ast.Name, level: int) -> Expression:
        return Name(node.id)

    def access(self, node: ast.Subscript, level: int) -> Expression:
        if not isinstance(node.value, ast.Name):
            self.fail("only a tensor's name can be indexed", node)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not items:
            self.fail("expected at least one index", node)
        return Access(node.value.id, tuple(self.expression(item, level) for item in items))

    def unary(self, node: ast.UnaryOp, level: int) -> Expression:
        operand = self.expression(node.operand, level)
        if isinstance(node.op, ast.UAdd):
            self.fail("a leading `+` is not part of the language", node)
        return Unary("not" if isinstance(node.op, ast.Not) else "-", operand)

    def binary(self, node: ast.BinOp, level: int) -> Expression:
        operator = _BINARY.get(type(node.op))
        if operator is None:
            self.fail("this operator is not part of the language", node)
        left, right = self.expression(node.left, level), self.expression(node.right, level)
        if operator == "**":
            self.check_power(node)
        return Binary(operator, left, right)

    def check_power(self, node: ast.BinOp) -> None:
        """Powers stay small: a literal exponent, and no power of a power."""
        exponent = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        value = exponent.value if isinstance(exponent, ast.Constant) else None
        if not isinstance(value, (int, float)) or value > MAX_EXPONENT:
            self.fail(f"expected an exponent that is a number of at most {MAX_EXPONENT}", node.right)
        if any(isinstance(inner, ast.Pow) for inner in ast.walk(node.left)):
            self.fail("a power of a power is not part of the language", node)

    def boolean(self, node: ast.BoolOp, level: int) -> Expression:
        return self.fold(_BINARY[type(node.op)], [self.expression(v, level) for v in node.values])

    def comparison(self, node: ast.Compare, level: int) -> Expression:
        if isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            return self.is_none(node)
        # The middle of a chain is written twice in the tree: without this rule nested chains would grow as 2 ** level.
        for middle in node.comparators[:-1]:
            if any(isinstance(inner, (ast.Compare, ast.BoolOp)) for inner in ast.walk(middle)):
                self.fail("the middle of a chain of comparisons cannot hold another comparison", middle)
        sides = [self.expression(side, level) for side in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        return self.fold("and", [Binary(self.comparator(op, node), left, right) for op, left, right in pairs])

    def comparator(self, operator: ast.cmpop, node: ast.expr) -> str:
        if type(operator) not in _BINARY:
            self.fail("`in`, and `is` in a chain, are not part of the language", node)
        return _BINARY[type(operator)]

    def fold(self, operator: str, parts: list[Expression]) -> Expression:
        whole = parts[0]
        for part in parts[1:]:
            whole = Binary(operator, whole, part)
        return whole

    def is_none(self, node: ast.Compare) -> Expression:
        other = node.comparators[0]
        if len(node.ops) > 1 or not (isinstance(other, ast.Constant) and other.value is None):
            self.fail("`is` only compares with `None`", node)
        if not isinstance(node.left, ast.Name):
            self.fail("only an argument can be compared with `None`", node)
        found = IsNone(node.left.id)
        return found if isinstance(node.ops[0], ast.Is) else Unary("not", found)

    def call(self, node: ast.Call, level: int) -> Expression:
        function = self.function(node)
        if function == "concat":
            self.fail("`concat` must be the whole expression", node)
        if function == "sum":
            self.check_count(node, 2, "`sum(index, expression)`")
            return Sum(self.index(node.args[0]), self.expression(node.args[1], level))
        if function in GUARD_FUNCTIONS and not all(isinstance(a, ast.Name) for a in node.args):
            self.fail(f"`{function}` takes the name of an argument", node)
        if function == "interval" and node.args and not isinstance(node.args[0], ast.Name):
            self.fail("`interval` takes the name of a tensor first", node)
        wanted = _COUNTS.get(function, 1)
        if function not in _MANY:
            self.check_count(node, wanted, f"{wanted} argument{'s' * (wanted > 1)} of `{function}`")
        elif len(node.args) < 2:
            self.fail(f"expected at least 2 arguments of `{function}`, got {len(node.args)}", node)
        return Call(function, tuple(self.expression(a, level) for a in node.args))

    def function(self, node: ast.Call) -> str:
        if not isinstance(node.func, ast.Name):
            self.fail("only a function's name can be called", node)
        if node.func.id not in FUNCTIONS:
            self.fail(f"unknown function `{node.func.id}`.{did_you_mean(node.func.id, FUNCTIONS)}", node)
        if node.keywords:
            self.fail(f"`{node.func.id}` takes no keywords", node)
        return node.func.id

    def check_count(self, node: ast.Call, count: int, expected: str) -> None:
        if len(node.args) != count:
            self.fail(f"expected {expected}, got {len(node.args)} argument{'s' * (len(node.args) != 1)}", node)

    def index(self, node: ast.expr) -> str:
        if not (isinstance(node, ast.Name) and len(node.id) == 1 and node.id.islower()):
            self.fail("expected an index, one lower-case letter", node)
        return node.id

    def concat(self, node: ast.Call) -> Expression:
        self.function(node)
        if len(node.args) < 3:
            self.fail("expected `concat(index, tensor, tensor, ...)`", node)
        for part in node.args[1:]:
            zeros = isinstance(part, ast.Constant) and type(part.value) is int and part.value == 0
            if not isinstance(part, ast.Name) and not zeros:
                self.fail("`concat` joins tensors by name", part)
        return Concat(self.index(node.args[0]), tuple(self.expression(part, 2) for part in node.args[1:]))


_CONVERTERS: dict[type[ast.expr], Callable[..., Expression]] = {
    ast.Constant: _Converter.constant,
    ast.Name: _Converter.name,
    ast.Subscript: _Converter.access,
    ast.UnaryOp: _Converter.unary,
    ast.BinOp: _Converter.binary,
    ast.BoolOp: _Converter.boolean,
    ast.Compare: _Converter.comparison,
    ast.Call: _Converter.call,
}
_WRITTEN: dict[type[ast.expr], str] = {
    ast.IfExp: "`if ... else` (write `where(condition, a, b)`)",
    ast.Attribute: "an attribute",
    ast.Lambda: "`lambda`",
    ast.Tuple: "a tuple",
    ast.List: "a list",
    ast.Starred: "`*`",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
}
