"""Mutants of an implementation's source: one small change of its syntax tree each, as a slip of the pen would make it.

The operators are those of mutmut and cosmic-ray. Both are programs that change files in place and run a suite of tests over
them, with a terminal or a database in their luggage; what is needed here is the operators alone, and a check that is no suite.

What binds shapes and refuses calls is the same text in every generated file and left out, and so is the text of errors.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed source; `line` is where, `change` is what."""

    line: int
    change: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its tree."""
    tree = ast.parse(source)
    kept = _computing(tree)
    for number in range(_Planter(kept, -1).count(tree)):
        planter = _Planter(kept, number)
        changed = ast.fix_missing_locations(planter.visit(deepcopy(tree)))
        yield Mutant(planter.line, planter.change, ast.unparse(changed))


def _computing(tree: ast.Module) -> frozenset[str]:
    """The functions to change: the public ones, and of what these call whatever refuses nothing."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = {name for name in functions if not name.startswith("_")}
    left = list(found)
    while left:
        for node in ast.walk(functions[left.pop()]):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name in functions and name not in found and not _raises(functions[name]):
                found.add(name)
                left.append(name)
    return frozenset(found)


def _raises(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(function))


class _Planter(ast.NodeTransformer):
    """Makes the change of one number, and counts them."""

    def __init__(self, functions: frozenset[str], number: int) -> None:
        self._functions = functions
        self._number = number
        self._seen = 0
        self._in_gradient = False
        self.line, self.change = 0, ""

    def count(self, tree: ast.Module) -> int:
        """How many changes there are."""
        self.visit(deepcopy(tree))
        return self._seen

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [self.visit(each) if self._is_kept(each) else each for each in node.body]
        return node

    def _is_kept(self, node: ast.stmt) -> bool:
        return isinstance(node, ast.FunctionDef) and node.name in self._functions

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._in_gradient = node.name.endswith("_vjp")
        node.body = [self.visit(each) for each in node.body]  # neither annotations nor defaults, which the signature shows
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """A gradient is asked for after the call, which has refused what its gradient would refuse again."""
        again = self._in_gradient and all(isinstance(each, ast.Raise) for each in node.body)
        return node if again else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)  # a docstring

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        called = node.value.func.id if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name) else ""
        return node if called.startswith("_") and called not in self._functions else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = self.visit(node.value) if node.value else None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        for change, other in _changes(node):
            if self._seen == self._number:
                self.line, self.change = node.lineno, change  # type: ignore[attr-defined]
                self._seen += 1
                return ast.copy_location(other, node)
            self._seen += 1
        return node


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node may be instead, each with a few words."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARED:
            other = ast.Compare(left, [COMPARED[type(op)]()], [right])
            yield _becomes(node, other), other
        case ast.BinOp(left=left, op=binary, right=right) if type(binary) in COMPUTED:
            computed = ast.BinOp(left, COMPUTED[type(binary)](), right)
            yield _becomes(node, computed), computed
        case ast.BoolOp(op=boolean, values=values):
            joined = ast.BoolOp(ast.Or() if isinstance(boolean, ast.And) else ast.And(), values)
            yield _becomes(node, joined), joined
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield _becomes(node, operand), operand
        case ast.Constant(value=bool(value)):
            yield f"`{value}` becomes `{not value}`", ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield f"`{value}` becomes `{value + 1}`", ast.Constant(value + 1)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            swapped = ast.IfExp(test, orelse, body)
            yield _becomes(node, swapped), swapped
        case ast.If(test=ast.Name() | ast.Call() as test, body=body, orelse=orelse):
            yield f"`if {ast.unparse(test)}` becomes `if not`", ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Call(func=ast.Attribute(value=receiver, attr="astype" | "to")):
            yield f"the cast in `{ast.unparse(node)}` is dropped", receiver
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if _reads(value, name):
            yield f"`{ast.unparse(node)}` is dropped", ast.Pass()


def _becomes(node: ast.AST, other: ast.AST) -> str:
    return f"`{ast.unparse(node)}` becomes `{ast.unparse(ast.fix_missing_locations(other))}`"


def _reads(value: ast.expr, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(value))
