"""Programs to source text. A target is an op table over this printer plus the few things that really differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from attnspec.codegen.program import (
    Assign,
    Check,
    Const,
    Default,
    Derived,
    Dims,
    For,
    If,
    Line,
    Node,
    Op,
    Program,
    Ref,
    Return,
    Sizes,
    Statement,
)
from attnspec.spec.expression import Access, Binary, Call, Expression, IsNone, Name, Number, Text, Unary, names, substitute

INDENT = "    "
ATOM, POWER, NEGATE, MULTIPLY, ADD, AND, OR, COMPARE, NOT, BOTH, EITHER = 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2
"""Python's precedences, tightest first (`&` and `|` bind tighter than comparisons)."""

INFIX = {
    "add": ("+", ADD), "sub": ("-", ADD), "mul": ("*", MULTIPLY), "div": ("/", MULTIPLY), "floordiv": ("//", MULTIPLY),
    "mod": ("%", MULTIPLY), "pow": ("**", POWER), "lt": ("<", COMPARE), "le": ("<=", COMPARE), "gt": (">", COMPARE),
    "ge": (">=", COMPARE), "eq": ("==", COMPARE), "ne": ("!=", COMPARE),
}  # fmt: skip
_FOLLOWING = frozenset({"merge", "cast", "sum_to", "transpose", "stop_gradient"})
_LOGIC = {"and": (("&", AND), ("and", BOTH)), "or": (("|", OR), ("or", EITHER))}
_GUARD_INFIX = dict(INFIX.values()) | {"and": BOTH, "or": EITHER}

Printed = tuple[str, int]


@dataclass(frozen=True)
class Target:
    """What a framework needs of the printer.

    `ops` prints an op from its printed arguments; a template such as `np.tanh({0})` or a function of (printer, op).
    `guards` prints a guard function of an argument's name. `concrete` asks whether numbers have values, where they may be
    traced; `unknown_size` prints a size in arithmetic on floats, where sizes too may be unknown while a graph is traced.
    `explicit_casts` says that operands of two dtypes are refused. `borrows` names other targets whose helpers it carries too.
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
    concrete: str = ""
    unknown_size: str = ""
    explicit_casts: bool = False
    borrows: tuple[str, ...] = ()


@dataclass
class Printer:
    """Prints one program for one target."""

    target: Target
    batched: bool
    sizes: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    current_groups: set[str] = field(default_factory=set)

    def function_body(self, program: Program) -> str:
        """The body; sizes and dtypes are there only where something reads them."""
        body = program.body
        for kind in (Assign, Derived, Sizes):
            text = self.branch(tuple(s for s in body if not _may_be_unread(s, kind)), "")
            read = set(re.findall(r"\w+", _TEXT.sub("", text)))
            body = tuple(s for s in (_where_read(s, kind, read) for s in body) if s is not None)
        return self.branch(body, "")

    def block(self, body: tuple[Statement, ...], owner: str = "") -> str:
        """Statements line by line; a comment names the clause and its rule where a new one begins."""
        texts: list[str] = []
        for statement in body:
            clause = getattr(statement, "clause", "")
            if clause and clause != owner:
                texts.append(self.comment(clause))
            owner = clause or owner
            texts.append(self.statement(statement))
        return "\n".join(texts)

    def branch(self, body: tuple[Statement, ...], owner: str) -> str:
        """A block whose variables the code after it may not count on."""
        before = set(self.current_groups)
        text = self.block(body, owner)
        self.current_groups = before & self.current_groups
        return text

    def comment(self, clause: str) -> str:
        rule = self.rules.get(clause)
        return f"# {clause}: {rule}" if rule else f"# {clause}"

    def statement(self, statement: Statement) -> str:
        match statement:
            case Assign(target, value):
                return "\n".join(self.assigned(target, value))
            case If(test, body, orelse, clause):
                text = f"if {self.guard(test)[0]}:\n{indent(self.branch(body, clause))}"
                if orelse and leaves(body):
                    return f"{text}\n{self.branch(orelse, '')}"
                return f"{text}\nelse:\n{indent(self.branch(orelse, clause))}" if orelse else text
            case For(variables, over, body, clause):
                return f"for {', '.join(variables)} in {over}:\n{indent(self.branch(body, clause))}"
            case Line(text):
                return text
            case Sizes((name,)):
                return f'{name} = sizes["{name}"][0]'
            case Sizes(names):
                return f'{", ".join(names)} = (sizes[dim][0] for dim in "{"".join(names)}")'
            case Derived(name, rule):
                return f"{name} = {self.guard(rule)[0]}"
            case Default(name, rule):
                return f'{name} = {self.default(rule)} if {name} is None else _number("{name}", {name})'
            case Check(fails, raises, message, _, numbers, sizes):
                asked = (*numbers, *(sizes if self.target.unknown_size else ()))
                known = self.target.concrete.format(", ".join(asked)) if asked and self.target.concrete else ""
                condition = f"{known} and {self.guarded(fails, BOTH)}" if known else self.guard(fails)[0]
                return f"if {condition}:\n{INDENT}raise {raises}({_text(message)})"
            case Return(values, lifted):
                axes = lifted or (None,) * len(values)
                every = (_returned(value.name, axis, alone=len(values) == 1) for value, axis in zip(values, axes, strict=True))
                return f"return {', '.join(every)}"

    def assigned(self, target: Ref, value: Node) -> Iterator[str]:
        """One step a line: regrouped operands of a product and what follows it get lines of their own."""
        if isinstance(value, Op) and value.name in _FOLLOWING and isinstance(value.arguments[0], Op):
            yield from self.assigned(target, value.arguments[0])
            value = replace(value, arguments=(Ref(target.name, value.arguments[0].dims), *value.arguments[1:]))
        elif isinstance(value, Op):
            yield from self.groupings(value)
            value = _with_groups(value)
        self.current_groups.discard(f"grouped_{target.name}")
        yield from self.assignment(target, value)

    def assignment(self, target: Ref, value: Node) -> Iterator[str]:
        """The lines of one step."""
        yield f"{target.name} = {self.node(value)[0]}"

    def groupings(self, value: Op) -> Iterator[str]:
        """The lines that split the heads of a product's operands into groups, where they are not there already."""
        product = _product(value)
        for operand in product.arguments if product else ():
            grouped = _grouped(operand)
            if isinstance(grouped, Ref) and grouped != operand and grouped.name not in self.current_groups:
                self.current_groups.add(grouped.name)
                yield from self.assignment(grouped, operand)

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
        left, right = (self.operand(node, tight) for node, tight in zip(arguments, _sides(precedence), strict=True))
        return f"{left} {symbol} {right}", precedence

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
            case Text(value):
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
                tight_left, tight_right = _sides(own)
                return f"{self.guarded(left, tight_left)} {operator} {self.guarded(right, tight_right)}", own
            case Call(function, (Name(name),)):
                return self.target.guards[function].format(name), ATOM
            case Call(function, arguments):
                return f"{function}({', '.join(self.guard(a)[0] for a in arguments)})", ATOM
            case Access(tensor, indices):
                return f"{tensor}[{', '.join(self.guard(i)[0] for i in indices)}]", ATOM
        raise TypeError(f"no guard: {expression!r}")

    def default(self, rule: Expression) -> str:
        """What a number is where nothing is given, over sizes."""
        if self.target.unknown_size:
            rule = substitute(rule, {size: Name(self.target.unknown_size.format(size)) for size in names(rule)})
        return self.guard(rule)[0]

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

    def selected(self, op: Op) -> str:
        """`x[0]`: one entry of the first axis."""
        return f"{self.operand(op.arguments[0], ATOM)}[{op['index']}]"

    def shape(self, dims: object) -> str:
        """Sizes by their Python names."""
        assert isinstance(dims, tuple)
        return ", ".join(self.sizes.get(str(dim), str(dim)) for dim in dims)

    def permutation(self, op: Op) -> str:
        source, dims = op.arguments[0].dims, op.dims
        assert source is not None and dims is not None
        return ", ".join(str(source.index(dim)) for dim in dims)


def _text(message: str) -> str:
    """A message as source; braces hold names."""
    quote = "'" if '"' in message else '"'
    return f"{'f' if '{' in message else ''}{quote}{message}{quote}"


def _sides(precedence: int) -> tuple[int, int]:
    """The least precedences of an infix operator's operands: `-` groups to the left, `**` to the right, `<` neither way."""
    if precedence == POWER:
        return ATOM, NEGATE
    return precedence + (precedence == COMPARE), precedence + 1


def _returned(name: str, axis: int | None, alone: bool) -> str:
    """A returned variable, without an axis where the call came without it."""
    if axis is None or name == "None":
        return name
    text = f"{at_axis(name, axis, '0')} if lifted else {name}"
    return text if alone else f"({text})"


def at_axis(name: str, axis: int, index: str) -> str:
    """A variable indexed along one axis: `x[0]`, `x[:, None]`."""
    return f"{name}[{':, ' * axis}{index}]"


def leaves(body: tuple[Statement, ...]) -> bool:
    """Whether nothing after the statements is reached."""
    last = body[-1] if body else None
    return isinstance(last, Return) or (isinstance(last, Line) and last.text.startswith("return "))


def _may_be_unread(statement: Statement, kind: type) -> bool:
    """Whether it is a statement of `kind` that gives sizes or a dtype."""
    return isinstance(statement, kind) and (not isinstance(statement, Assign) or statement.target.name in _DTYPES)


def _where_read(statement: Statement, kind: type, read: set[str]) -> Statement | None:
    """A statement of `kind` without the sizes and dtypes that nothing reads; any other as it is."""
    if not _may_be_unread(statement, kind):
        return statement
    if isinstance(statement, Sizes):
        names = tuple(name for name in statement.names if name in read)
        return Sizes(names) if names else None
    name = statement.target.name if isinstance(statement, Assign) else statement.name if isinstance(statement, Derived) else ""
    return statement if name in read else None


_DTYPES = ("dtype", "compute")
"""The variables that hold one."""
_TEXT = re.compile(r'(?<!f)"[^"\n]*"')
"""A text in which no variable is read."""


def _product(value: Op) -> Op | None:
    """The einsum that `value` is, or that it adds to something."""
    last = value.arguments[-1] if value.name == "add" else value
    return last if isinstance(last, Op) and last.name == "einsum" else None


def _with_groups(value: Op) -> Op:
    product = _product(value)
    if product is None:
        return value
    named = replace(product, arguments=tuple(map(_grouped, product.arguments)))
    return named if product is value else replace(value, arguments=(*value.arguments[:-1], named))


def _grouped(operand: Node) -> Node:
    """The variable that holds an operand with its heads split into groups."""
    if isinstance(operand, Op) and operand.name == "split" and isinstance(operand.arguments[0], Ref):
        return Ref(f"grouped_{operand.arguments[0].name}", operand.dims)
    return operand


def indent(text: str) -> str:
    """Every line one level further in."""
    return "\n".join(INDENT + line if line else line for line in text.split("\n"))
