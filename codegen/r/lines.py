"""The statements about arguments, in R. The compiler has them as lines of Python: a small closed subset, read with `ast`.

A call `query = _tensor(sizes, "query", ...)` becomes `query <- .tensor(sizes, "query", ...)`, `key = value if key is None else
key` becomes `if (is.null(key)) key <- value`, and `query[None]` becomes `array(query, c(1, dim(query)))`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from itertools import takewhile

from attnspec.codegen.index_notation import LoweringError

_RESERVED = {
    "if",
    "else",
    "repeat",
    "while",
    "function",
    "for",
    "next",
    "break",
    "in",
    "TRUE",
    "FALSE",
    "NULL",
    "Inf",
    "NaN",
    "NA",
}
_HELD_AS_LISTS = frozenset({"_members"})
_ASKING_SIZES = frozenset({"_lacks_leading_axis", "_lacks_it_too"})
_COMPUTED = {ast.Mult: "*", ast.FloorDiv: "%/%"}
_COMPARED = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def in_r_text(line: str, layout_error: str) -> str:
    """The R of one Python line. Raises LoweringError for what is not in the subset."""
    return "\n".join(_Translation(line, layout_error).block(ast.parse(line).body))


def variable(name: str) -> str:
    """A name, quoted where R could not read it."""
    return f"`{name}`" if name in _RESERVED or name.startswith("_") else name


def helper(name: str) -> str:
    """`.tensor` of `_tensor`: names with a leading dot are a package's own."""
    return "." + name.removeprefix("_")


def string(text: str) -> str:
    """A string literal."""
    return json.dumps(text, ensure_ascii=False)


def literal(value: object) -> str:
    """A constant: NULL, TRUE, `4L`, `0.5`, a string, `c(3L, 2L)`."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return f"{value}L"
    if isinstance(value, str):
        return string(value)
    if isinstance(value, (tuple, list)):
        return f"c({', '.join(map(literal, value))})"
    return repr(value).removesuffix(".0")


def _label(name: str) -> str:
    """The name of a dim in a list, quoted where it is one of several dims: `"(N*H)"`."""
    return name if name.isidentifier() else string(name)


def calling(function: str, *arguments: str) -> str:
    """A call as text."""
    return f"{function}({', '.join(arguments)})"


def with_axis(name: str, after: int) -> str:
    """An array with an axis of size 1 after so many of its own."""
    return f"array({name}, {f'append(dim({name}), 1, {after})' if after else f'c(1, dim({name}))'})"


def axes(places: list[int]) -> str:
    """`3`, `1:4` or `c(1, 3)`."""
    if len(places) > 1 and places == list(range(places[0], places[-1] + 1)):
        return f"{places[0]}:{places[-1]}"
    return str(places[0]) if len(places) == 1 else calling("c", *map(str, places))


class _Translation:
    """One line. `layout_error` is what shapes and dtypes that do not fit raise."""

    def __init__(self, line: str, layout_error: str) -> None:
        self._line = line
        self._layout_error = layout_error

    def refused(self, node: ast.AST) -> LoweringError:
        return LoweringError(f"r: `{ast.unparse(node)}` in `{self._line}` has no form in R")

    def block(self, body: list[ast.stmt]) -> Iterator[str]:
        for statement in body:
            yield from self.statement(statement)

    def statement(self, node: ast.stmt) -> Iterator[str]:
        match node:
            case ast.AnnAssign(target=ast.Name("sizes"), value=ast.Dict(keys, values)):
                told = [f"{_label(ast.literal_eval(k))} = {self.node(v)}" for k, v in zip(keys, values, strict=True) if k]
                yield f"sizes <- {calling('.sizes', string(self._layout_error), *told)}"
            case ast.Expr(ast.Call(ast.Name("_same_dtype"))):
                return
            case ast.Expr(value):
                yield self.node(value)
            case ast.Assign([ast.Name(name)], ast.IfExp(ast.Compare(ast.Name(tested), [ast.Is()]), body, ast.Name(kept))) if (
                name == tested == kept
            ):
                yield f"if (is.null({variable(name)})) {variable(name)} <- {self.node(body)}"
            case ast.Assign([ast.Subscript(ast.Name("sizes"), ast.Constant(str(dim)))], ast.Tuple([size, owner])):
                yield calling(".set_size", "sizes", string(dim), self.node(size), self.node(owner))
            case ast.Assign([ast.Name(name)], value):
                yield f"{variable(name)} <- {self.node(value)}"
            case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)):
                for target, value in zip(targets, values, strict=True):
                    yield f"{self.node(target)} <- {self.node(value)}"
            case ast.Assign([ast.Tuple(targets)], ast.Call(ast.Name(function), [ast.Constant(str(source)), *_]) as call):
                yield f"{variable(source)} <- {self.node(call)}"
                opening, closing = ("[[", "]]") if function in _HELD_AS_LISTS else ("[", "]")
                for place, target in enumerate(targets, 1):
                    yield f"{self.node(target)} <- {variable(source)}{opening}{place}{closing}"
            case ast.If(test, body, []):
                inner = list(self.block(body))
                yield f"if ({self.node(test)}) {{"
                yield from (f"    {line}" for line in inner)
                yield "}"
            case _:
                raise self.refused(node)

    def node(self, node: ast.expr) -> str:
        match node:
            case ast.Name(name):
                return variable(name)
            case ast.Constant(int(value)) if not isinstance(value, bool):
                return str(value)
            case ast.Constant(value):
                return literal(value)
            case ast.List(members):
                return calling("list", *map(self.node, members))
            case ast.Tuple(members):
                # A pair of a size and where it was told is a list: the two are of different kinds.
                kinds = {type(member.value) if isinstance(member, ast.Constant) else None for member in members}
                return calling("list" if None in kinds or len(kinds) > 1 else "c", *map(self.node, members))
            case ast.Call(ast.Name(function), arguments, keywords):
                named = [f"{variable(k.arg)} = {self.node(k.value)}" for k in keywords if k.arg]
                own = ["sizes"] if function in _ASKING_SIZES else []
                return calling(helper(function), *own, *map(self.node, arguments), *named)
            case ast.Compare(left, [ast.Is() | ast.IsNot() as operator], [ast.Constant(None)]):
                return f"{'!' if isinstance(operator, ast.IsNot) else ''}is.null({self.node(left)})"
            case ast.Compare(left, [operator], [right]) if type(operator) in _COMPARED:
                return f"{self.node(left)} {_COMPARED[type(operator)]} {self.node(right)}"
            case ast.BoolOp(operator, values):
                return (" && " if isinstance(operator, ast.And) else " || ").join(map(self.node, values))
            case ast.IfExp(test, body, orelse):
                return f"if ({self.node(test)}) {self.node(body)} else {self.node(orelse)}"
            case ast.BinOp(left, operator, right) if type(operator) in _COMPUTED:
                return f"{self.node(left)} {_COMPUTED[type(operator)]} {self.node(right)}"
            case ast.Subscript(ast.Subscript(ast.Name("sizes"), ast.Constant(str(dim))), ast.Constant(0)):
                return f"sizes${dim}"
            case ast.Attribute(value, "ndim"):
                return f"length(dim({self.node(value)}))"
            case ast.Subscript(ast.Name("params"), ast.Constant(str(name))):
                return f"params[[{string(name)}]]"
            case ast.Subscript(ast.Name(name), index):
                return self.with_axis(variable(name), index)
        raise self.refused(node)

    def with_axis(self, name: str, index: ast.expr) -> str:
        """`x[None]` and `x[:, None, :]`: one axis inserted."""
        parts = index.elts if isinstance(index, ast.Tuple) else [index]
        before = len(list(takewhile(lambda part: isinstance(part, ast.Slice), parts)))
        inserted = [part for part in parts if isinstance(part, ast.Constant) and part.value is None]
        slices = [part for part in parts if isinstance(part, ast.Slice)]
        if len(inserted) != 1 or len(slices) + 1 != len(parts):
            raise self.refused(index)
        return with_axis(name, before)
