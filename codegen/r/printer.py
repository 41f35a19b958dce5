"""Programs to R. Arrays do not broadcast there: what lacks an axis is spread along it, in the shape of its statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.printer import ATOM, Printed, Printer, indent, leaves
from attnspec.codegen.program import (
    ELEMENTWISE,
    Assign,
    Check,
    Default,
    Derived,
    Dims,
    If,
    Line,
    Node,
    Op,
    Program,
    Ref,
    Return,
    Sizes,
    Statement,
    walk,
)
from attnspec.codegen.r.lines import axes, calling, in_r_text, literal, string, variable
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Number, Text, Unary

POWER, NEGATE, SPECIAL, MULTIPLY, ADD, COMPARE, NOT, AND, OR = 11, 10, 9, 8, 7, 6, 5, 4, 3
"""R's precedences, tightest first."""

_INFIX = {
    "add": ("+", ADD), "sub": ("-", ADD), "mul": ("*", MULTIPLY), "div": ("/", MULTIPLY), "floordiv": ("%/%", SPECIAL),
    "mod": ("%%", SPECIAL), "pow": ("^", POWER), "lt": ("<", COMPARE), "le": ("<=", COMPARE), "gt": (">", COMPARE),
    "ge": (">=", COMPARE), "eq": ("==", COMPARE), "ne": ("!=", COMPARE), "and": ("&", AND), "or": ("|", OR),
}  # fmt: skip
_GUARD_INFIX = {
    "+": ("+", ADD), "-": ("-", ADD), "*": ("*", MULTIPLY), "/": ("/", MULTIPLY), "//": ("%/%", SPECIAL), "%": ("%%", SPECIAL),
    "**": ("^", POWER), "<": ("<", COMPARE), "<=": ("<=", COMPARE), ">": (">", COMPARE), ">=": (">=", COMPARE),
    "==": ("==", COMPARE), "!=": ("!=", COMPARE), "and": ("&&", AND), "or": ("||", OR),
}  # fmt: skip
ABSENT = Ref("None")
"""What is returned where a value may be and is not."""
_GRID_COMMENT = "# Positions of queries and keys, counted from 0, in the shape of the logits."
_GRID = re.compile(r"\w <- \.spread\(seq_len")


@dataclass(frozen=True, slots=True)
class Frame:
    """The shape in which an elementwise expression is computed, and its text."""

    dims: Dims
    shape: str


@dataclass
class RPrinter(Printer):
    """Prints one program for R.

    `layout_error` is what shapes and dtypes that do not fit raise. `loose` are the tensors whose axes may be missing, or 1.
    `grid` are the dims of the logits, in whose shape the positions t and s are kept, where something reads them. `leading`:
    whether B stands for any number of axes outside. `returns` are the names of what is returned where there is all of it.
    """

    layout_error: str = "ValueError"
    loose: frozenset[str] = frozenset()
    grid: Dims = ()
    leading: bool = False
    returns: tuple[str, ...] = ()
    _frame: Frame | None = None
    _positions: set[str] = field(default_factory=set)

    def function_body(self, program: Program) -> str:
        self.branch(program.body, "")  # to see which positions are read
        return super().function_body(program)

    # -- statements ---------------------------------------------------------------------------------------------------

    def statement(self, statement: Statement) -> str:
        match statement:
            case Assign(target, Op("arange")) if target.name not in self._positions:
                return ""
            case If(test, body, orelse, clause):
                text = f"if ({self.guard(test)[0]}) {{\n{indent(self.branch(body, clause))}\n}}"
                if orelse and leaves(body):
                    return f"{text}\n{self.branch(orelse, '')}"
                return f"{text} else {{\n{indent(self.branch(orelse, clause))}\n}}" if orelse else text
            case Line(text):
                return in_r_text(text, self.layout_error)
            case Sizes(names):
                return "\n".join(f"{name} <- sizes${name}" for name in names)
            case Derived(name, rule):
                return f"{name} <- {self.guard(rule)[0]}"
            case Default(name, rule):
                own = variable(name)
                return f"{own} <- if (is.null({own})) {self.default(rule)} else .number({string(name)}, {own})"
            case Check(fails, raises, message):
                return f"if ({self.guard(fails)[0]}) {{\n    .raise({string(raises)}, {self.message(message)})\n}}"
            case Return(values, lifted):
                return "\n".join(self.returned(values, lifted))
        return super().statement(statement)

    def block(self, body: tuple[Statement, ...], owner: str = "") -> str:
        """Without the lines of statements that R does not need."""
        lines = super().block(body, owner).split("\n")
        grids = [place for place, line in enumerate(lines) if _GRID.match(line)]
        if grids and lines[grids[0] - 1] != _GRID_COMMENT:
            lines.insert(grids[0], _GRID_COMMENT)
        return "\n".join(filter(None, lines))

    def message(self, message: str) -> str:
        """A format string over names: `sprintf` of its values, where it has any."""
        found = re.findall(r"(?<!\{)\{(\w+)\}", message)
        template = re.sub(r"(?<!\{)\{\w+\}", "%s", message.replace("%", "%%") if found else message)
        template = template.replace("{{", "{").replace("}}", "}")
        if not found:
            return string(template)
        return calling("sprintf", string(template), *map(variable, found))

    def returned(self, values: tuple[Ref, ...], lifted: tuple[int, ...]) -> Iterator[str]:
        """The leading axes come back, or the one that the call came without goes; several values are a named list."""
        for place, value in ((place, value) for place, value in enumerate(values) if value != ABSENT):
            name = variable(value.name)
            if self.leading and value.dims and value.dims[0] == "B":
                yield f"dim({name}) <- c(sizes$batch, dim({name})[-1])"
            if lifted:
                yield f"if (lifted) dim({name}) <- dim({name})[-{lifted[place] + 1}]"
        names = [variable(value.name) for value in values]
        if len(names) == 1:
            yield f"return({names[0]})"
            return
        labels = self.returns if ABSENT in values else names
        held = ("NULL" if value == ABSENT else name for name, value in zip(names, values, strict=True))
        pairs = (f"{label} = {value}" for label, value in zip(labels, held, strict=True))
        yield f"return({calling('list', *pairs)})"

    def assignment(self, target: Ref, value: Node) -> Iterator[str]:
        name = variable(target.name)
        match value:
            case Op("arange", (Ref(size),)):
                axis = self.grid.index(size) + 1
                yield f"{name} <- .spread(seq_len({self.sizes.get(size, size)}) - 1, {axis}, {self.shape(self.grid)})"
            case Op("merge", (Ref(target.name),), dims):
                yield f"dim({name}) <- {self.shape(dims)}"
            case Op("where", (attends, Ref(target.name), fill)) if fill.dims is None:
                yield f"attends <- {self.framed(attends, self.frame(value))}"
                yield f"{name}[!attends] <- {self.node(fill)[0]}"
            case _:
                yield f"{name} <- {self.node(value)[0]}"

    # -- expressions --------------------------------------------------------------------------------------------------

    def node(self, node: Node) -> Printed:
        match node:
            case Ref(name):
                return variable(name), ATOM
            case Op(name) if name in ELEMENTWISE:
                return self.elementwise(node)
            case Op(name) if name not in self.target.ops:
                raise LoweringError(f"r: `{name}` has no form in R")
        return super().node(node)

    def elementwise(self, op: Op) -> Printed:
        """The whole expression in one frame: that of its root."""
        if op.dims is None or self._frame is not None:
            return self.operator(op)
        self._frame = self.frame(op)
        printed = self.operator(op)
        self._frame = None
        return printed

    def framed(self, node: Node, frame: Frame) -> str:
        """An expression, or a single array, in the shape of another."""
        self._frame = frame
        text = self.operand(node, 0)
        self._frame = None
        return text

    def frame(self, op: Op) -> Frame:
        """The dims of an expression, and its shape by a variable that has it, where there is one."""
        assert op.dims is not None
        whole = (n.name for n in walk(op) if isinstance(n, Ref) and n.dims == op.dims and not self.is_spread(n))
        name = next(whole, None)
        return Frame(op.dims, f"dim({variable(name)})" if name else self.shape(op.dims))

    def is_spread(self, ref: Ref) -> bool:
        """Whether a variable may lack an axis that its dims name; positions have a shape of their own."""
        return ref.name in self.loose or _is_position(ref)

    def operator(self, op: Op) -> Printed:
        arguments = op.arguments
        if op.name in _INFIX:
            return self.infix(*_INFIX[op.name], arguments)
        match op.name, arguments:
            case "neg", (argument,):
                return f"-{self.operand(argument, NEGATE)}", NEGATE
            case "not", (argument,):
                return f"!{self.operand(argument, NOT)}", NOT
            case "where", _ if op.dims is None:
                test, one, other = (self.operand(argument, 0) for argument in arguments)
                return f"(if ({test}) {one} else {other})", ATOM
            case "min" | "max", _ if op.dims is not None:
                arrays_first = sorted(arguments, key=lambda argument: argument.dims is None)  # the first gives the shape
                return calling(f"p{op.name}", *(self.operand(argument, 0) for argument in arrays_first)), ATOM
        printed = self.target.ops[op.name]
        assert isinstance(printed, str)
        return printed.format(*(self.operand(argument, 0) for argument in arguments)), ATOM

    def operand(self, node: Node, precedence: int) -> str:
        inside = self._frame is not None and bool(node.dims)  # a single number meets arrays of any shape
        if inside and not (isinstance(node, Op) and node.name in ELEMENTWISE):
            return self.leaf(node)
        return super().operand(node, precedence)

    def infix(self, symbol: str, precedence: int, arguments: tuple[Node, ...]) -> Printed:
        tight = _sides(precedence)
        if symbol == "|":  # parentheses that a reader needs, though R does not
            tight = tuple(OR if isinstance(node, Op) and node.name == "or" else NOT for node in arguments)
        left, right = map(self.operand, arguments, tight)
        return f"{left} {symbol} {right}" if symbol != "^" else f"{left}^{right}", precedence

    def leaf(self, node: Node) -> str:
        """An array inside an elementwise expression, in its shape."""
        assert self._frame is not None and node.dims is not None
        frame = self._frame
        node = node.arguments[0] if isinstance(node, Op) and node.name == "align" else node
        assert node.dims is not None
        if isinstance(node, Ref) and _is_position(node):
            if frame.dims == self.grid:
                self._positions.add(node.name)
                return node.name
            text = f"seq_len({self.sizes.get(node.dims[0], node.dims[0])}) - 1"
        else:
            text = self.alone(node)
            if node.dims == frame.dims and not (isinstance(node, Ref) and node.name in self.loose):
                return text
        return calling(".spread", text, axes([frame.dims.index(dim) + 1 for dim in node.dims]), frame.shape)

    def alone(self, node: Node) -> str:
        """An expression that has a shape of its own, whatever is around it."""
        outer, self._frame = self._frame, None
        text = self.node(node)[0]
        self._frame = outer
        return text

    def constant(self, value: int | float | str) -> Printed:
        if isinstance(value, str):
            return super().constant(value)
        return (repr(value).removesuffix(".0") if isinstance(value, float) else str(value)), ATOM

    def shape(self, dims: object) -> str:
        assert isinstance(dims, tuple)
        names = [self.sizes.get(str(dim), str(dim)) for dim in dims]
        return names[0] if len(names) == 1 else calling("c", *names)

    # -- guards -------------------------------------------------------------------------------------------------------

    def guard(self, expression: Expression) -> Printed:
        match expression:
            case Number(value):
                return literal(bool(value)) if isinstance(value, bool) else self.constant(value)[0], ATOM
            case Text(value):
                return string(value), ATOM
            case Name(name):
                return variable(name), ATOM
            case IsNone(name):
                return f"is.null({variable(name)})", ATOM
            case Unary("not", operand):
                return f"!{self.guarded(operand, NOT)}", NOT
            case Unary("-", operand):
                return f"-{self.guarded(operand, NEGATE)}", NEGATE
            case Binary(operator, left, right):
                symbol, own = _GUARD_INFIX[operator]
                tight_left, tight_right = _sides(own)
                space = "" if symbol == "^" else " "
                return f"{self.guarded(left, tight_left)}{space}{symbol}{space}{self.guarded(right, tight_right)}", own
            case Call(function, (Name(name),)) if function in self.target.guards:
                return self.target.guards[function].format(variable(name)), ATOM
            case Call(function, arguments):
                return calling(function, *(self.guard(argument)[0] for argument in arguments)), ATOM
        raise LoweringError(f"r: no guard: {expression!r}")


def _is_position(ref: Ref) -> bool:
    """An index as an array: `t`, over dim `T`."""
    return ref.dims is not None and ref.dims == (ref.name.upper(),)


def _sides(precedence: int) -> tuple[int, ...]:
    """The least precedences of an operator's operands: `^` groups to the right, comparisons neither way, others to the left."""
    if precedence == POWER:
        return ATOM, NEGATE
    return precedence + (precedence == COMPARE), precedence + 1
