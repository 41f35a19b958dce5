"""Programs to source text. A target is an op table over this printer plus the few things that really differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attnspec.codegen.program import Assign, Check, Const, Dims, For, If, Line, Node, Op, Program, Ref, Return, Statement
from attnspec.spec.expression import Access, Binary, Call, Expression, IsNone, Name, Number, Unary

INDENT = "    "
ATOM, POWER, NEGATE, MULTIPLY, ADD, AND, OR, COMPARE, NOT, BOTH, EITHER = 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2
"""Python's precedences, tightest first (`&` and `|` bind tighter than comparisons)."""

INFIX = {
    "add": ("+", ADD), "sub": ("-", ADD), "mul": ("*", MULTIPLY), "div": ("/", MULTIPLY), "floordiv": ("//", MULTIPLY),
    "mod": ("%", MULTIPLY), "pow": ("**", POWER), "lt": ("<", COMPARE), "le": ("<=", COMPARE), "gt": (">", COMPARE),
    "ge": (">=", COMPARE), "eq": ("==", COMPARE), "ne": ("!=", COMPARE),
}  # fmt: skip
_LOGIC = {"and": (("&", AND), ("and", BOTH)), "or": (("|", OR), ("or", EITHER))}
_GUARD_INFIX = {symbol: precedence for symbol, precedence in INFIX.values()} | {"and": BOTH, "or": EITHER}

Printed = tuple[str, int]


@dataclass(frozen=True)
class Target:
    """What a framework needs of the printer.

    `ops` prints an op from its printed arguments; a template such as `np.tanh({0})` or a function of (printer, op).
    `guards` prints a guard function of an argument's name.
    """

    name: str
    ops: Mapping[str, str | Callable[[Printer, Op], str]]
    guards: Mapping[str, str]
    infinity: str
    float32: str
    fill_max: str
    array_type: str
    imports: tuple[str, ...]
    decorator: str = ""


@dataclass
class Printer:
    """Prints one program for one target."""

    target: Target
    batched: bool
    sizes: Mapping[str, str] = field(default_factory=dict)

    def function_body(self, program: Program) -> str:
        return self.block(program.body)

    def block(self, body: tuple[Statement, ...]) -> str:
        return "\n".join(self.statement(statement) for statement in body)

    def statement(self, statement: Statement) -> str:
        match statement:
            case Assign(target, value, clause):
                text, _ = self.node(value)
                return f"{target.name} = {text}{_comment(clause)}"
            case If(test, body, orelse, clause):
                text = f"if {self.guard(test)[0]}:{_comment(clause)}\n{indent(self.uncommented(body, clause))}"
                return f"{text}\nelse:\n{indent(self.block(orelse))}" if orelse else text
            case For(variables, over, body, clause):
                return f"for {', '.join(variables)} in {over}:{_comment(clause)}\n{indent(self.block(body))}"
            case Line(text, clause):
                return text + _comment(clause)
            case Check(fails, raises, message, clause):
                raised = f'raise {raises}({"f" if "{" in message else ""}"{message}")'
                return f"if {self.guard(fails)[0]}:{_comment(clause)}\n{INDENT}{raised}"
            case Return():
                return self.returned(statement)

    def uncommented(self, body: tuple[Statement, ...], clause: str) -> str:
        """A branch whose own line already names the clause."""
        plain = (Assign(s.target, s.value) if isinstance(s, Assign) and s.clause == clause else s for s in body)
        return self.block(tuple(plain))

    def returned(self, statement: Return) -> str:
        texts = [self.node(value)[0] for value in statement.values]
        if statement.lifted:
            texts = [f"{self.operand(value, ATOM)}[0] if {statement.lifted} else {text}" for value, text in zip(statement.values, texts)]
            texts = [f"({text})" for text in texts] if len(texts) > 1 else texts
        return f"return {', '.join(texts)}"

    def node(self, node: Node) -> Printed:
        match node:
            case Ref(name):
                return name, ATOM
            case Const(value):
                return self.constant(value)
            case Op(name, arguments) if name in INFIX:
                return self.infix(*INFIX[name], arguments)
            case Op(name, arguments) if name in _LOGIC:
                return self.infix(*_LOGIC[name][node.dims is None], arguments)
            case Op("neg", (argument,)):
                return f"-{self.operand(argument, NEGATE)}", NEGATE
            case Op(name, arguments) if node.dims is None and name in ("min", "max"):
                return f"{name}({', '.join(self.node(a)[0] for a in arguments)})", ATOM
        printed = self.target.ops[node.name]
        if callable(printed):
            return printed(self, node), ATOM
        tight = [ATOM if f"{{{i}}}." in printed or printed.startswith("~") else 0 for i in range(len(node.arguments))]
        return printed.format(*map(self.operand, node.arguments, tight)), ATOM

    def operand(self, node: Node, precedence: int) -> str:
        text, own = self.node(node)
        return text if own >= precedence else f"({text})"

    def infix(self, symbol: str, precedence: int, arguments: tuple[Node, ...]) -> Printed:
        left, right = arguments
        tight_left = precedence + (precedence == COMPARE)
        return f"{self.operand(left, tight_left)} {symbol} {self.operand(right, precedence + 1)}", precedence

    def constant(self, value: int | float | str) -> Printed:
        if value == "-inf":
            return self.target.infinity, NEGATE
        if value == "-0.7 * max(float32)":
            return f"-0.7 * {self.target.fill_max}", MULTIPLY
        if value == "float32":
            return self.target.float32, ATOM
        return repr(value), ATOM

    def guard(self, expression: Expression) -> Printed:
        """A guard over Python values, in Python."""
        match expression:
            case Number(value):
                return repr(value), ATOM
            case Name(name):
                return name, ATOM
            case IsNone(name):
                return f"{name} is None", COMPARE
            case Unary("not", IsNone(name)):
                return f"{name} is not None", COMPARE
            case Unary("not", operand):
                return f"not {self.guarded(operand, NOT)}", NOT
            case Unary("-", operand):
                return f"-{self.guarded(operand, NEGATE)}", NEGATE
            case Binary(operator, left, right):
                own = _GUARD_INFIX[operator]
                return f"{self.guarded(left, own + (own == COMPARE))} {operator} {self.guarded(right, own + 1)}", own
            case Call(function, (Name(name),)):
                return self.target.guards[function].format(name), ATOM
            case Call(function, arguments):
                return f"{function}({', '.join(self.guard(a)[0] for a in arguments)})", ATOM
            case Access(tensor, indices):
                return f"{tensor}[{', '.join(self.guard(i)[0] for i in indices)}]", ATOM
        raise TypeError(f"no guard: {expression!r}")

    def guarded(self, expression: Expression, precedence: int) -> str:
        text, own = self.guard(expression)
        return text if own >= precedence else f"({text})"

    # What several targets print alike.

    def einsum(self, op: Op) -> str:
        """Subscripts in lower-case dims; leading batch axes are `...`."""
        operands = ",".join(self.subscripts(argument.dims) for argument in op.arguments)
        return f'"{operands}->{self.subscripts(op.dims)}"'

    def subscripts(self, dims: Dims | None) -> str:
        return "".join("..." if dim == "B" and self.batched else dim.lower() for dim in dims or ())

    def aligned(self, op: Op) -> str:
        """`x[:, None, :]`: an axis inserted for each missing dim."""
        inserted = op["inserted"]
        assert isinstance(inserted, tuple) and op.dims is not None
        parts = ("None" if dim in inserted else "..." if dim == "B" and self.batched else ":" for dim in op.dims)
        return f"{self.operand(op.arguments[0], ATOM)}[{', '.join(parts)}]"

    def axis(self, dims: Dims | None, dim: object) -> int:
        """The axis of a dim, counted from the end where there may be any number of leading axes."""
        assert dims is not None and isinstance(dim, str)
        at = dims.index(dim)
        return at - len(dims) if self.batched else at

    def reshaped(self, op: Op) -> str:
        """`x.reshape(B, T, K, G, H)`; leading batch axes are taken over."""
        node = op.arguments[0]
        assert op.dims is not None and node.dims is not None
        text = self.operand(node, ATOM)
        named = [self.sizes.get(dim, dim) for dim in op.dims]
        if self.batched and op.dims[0] == "B":
            named[0] = f"*{text}.shape[: -{len(node.dims) - 1}]" if isinstance(node, Ref) else "*sizes['...'][0]"
        return f"{text}.reshape({', '.join(named)})"

    def summed(self, op: Op) -> str:
        return f"{self.operand(op.arguments[0], ATOM)}.sum({self.axis(op.arguments[0].dims, op['dim'])})"

    def size(self, op: Op) -> str:
        return f"{self.operand(op.arguments[0], ATOM)}.shape[{self.axis(op.arguments[0].dims, op['dim'])}]"

    def without_last(self, op: Op) -> str:
        return f"{self.operand(op.arguments[0], ATOM)}[..., :-1]"

    def gathered(self, op: Op) -> str:
        """`table[:, index]`: every axis but the last in full."""
        table, index = op.arguments
        assert table.dims is not None
        return f"{self.operand(table, ATOM)}[{', '.join([':'] * (len(table.dims) - 1) + [self.node(index)[0]])}]"

    def permutation(self, op: Op) -> str:
        source, dims = op.arguments[0].dims, op.dims
        assert source is not None and dims is not None
        return ", ".join(str(source.index(dim)) for dim in dims)


def indent(text: str) -> str:
    return "\n".join(INDENT + line if line else line for line in text.split("\n"))


def _comment(clause: str) -> str:
    return f"  # {clause}" if clause else ""
