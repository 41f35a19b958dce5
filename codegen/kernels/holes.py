"""What a spec puts into a skeleton's holes: its logits and their derivative, its masks, and the blocks these let through.

Inside a kernel everything is a tile of queries by keys, or of keys by queries: t and s come with an axis for each, so that a
rule reads as the spec has it. Scalars are arguments of the kernel. What holds for some calls alone stands under its guard,
which is decided when a kernel is compiled: a tensor or a number that is not given is None there, and a flag is a constant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from attnspec.codegen.blocks.analysis import Blocks, all_of, analyse
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.derivative import pruned, reverse_stages
from attnspec.codegen.index_notation import LoweringError, Scope, lower
from attnspec.codegen.kernels.coverage import SINK
from attnspec.codegen.kernels.language import Language, Parameter, is_table
from attnspec.codegen.kernels.operands import FIRST, ORIGIN, WHOLE, Loaded, differentiable, operands_of, sizes_of_tables
from attnspec.codegen.kernels.shards import counted, in_shards, is_sharded
from attnspec.codegen.module import rules_of
from attnspec.codegen.printer import ATOM, Printed, Printer, indent
from attnspec.codegen.program import Assign, Const, If, Line, Node, Op, Ref, Statement
from attnspec.spec.expression import Access, Call, Expression, Name, Number, fold, names, substitute, to_text
from attnspec.spec.model import Argument, Spec, Stage

_TILE = ("TILE",)
_LOGITS = Ref("logits", _TILE)
_BLOCK_ENDS = {"high": Name("after")}  # in a kernel `high` is the end of the run
_SWAPPED = {"t": Name("s"), "s": Name("t"), "T": Name("S"), "S": Name("T")}


@dataclass(frozen=True)
class Holes:
    """The bodies of the hole functions, and what the skeleton's placeholders stand for."""

    bodies: dict[str, str]
    placeholders: dict[str, tuple[str, ...]]
    factor: str
    """What the gradients of the products are multiplied by at the end; empty where nothing is left."""
    derived: bool
    """Whether the derivative of the logits is more than that factor."""
    flags: Mapping[str, bool]
    """What the skeleton has for some specs alone."""


SEED = "seed"
DRAWN = Parameter(SEED, Argument(SEED, "tensor", required=False, dtype="integer"))
"""What decides what dropout draws. It is drawn itself where a call has dropout, and None where it has not."""


def parameters_of(spec: Spec) -> list[Parameter]:
    """What the stages of a spec read of a call, in its order."""
    read = set[str]().union(*map(_read_by, spec.paths[0].stages))
    rest = (a for a in spec.arguments if (a.feeds or a.name) not in ("query", "key", "value"))
    every = (Parameter(name, argument) for argument in rest for name in (argument.names or (argument.name,)))
    found = [each for each in every if {each.name, each.argument.name, *_entries_of(each)} & read]
    return [*found, DRAWN] if any(stage.kind == "dropout" for stage in spec.paths[0].stages) else found


def _entries_of(each: Parameter) -> Iterable[str]:
    """What rules read of it under names of their own."""
    return FIRST.values() if each.name == ORIGIN else ()


def compiled(spec: Spec, language: Language) -> Spec:
    """The spec as its kernels have it: in shards where they may be."""
    return in_shards(spec) if is_sharded(spec, language) else spec


def _read_by(stage: Stage) -> frozenset[str]:
    """What a stage names."""
    return names(stage.expression) | (names(stage.when) if stage.when is not None else frozenset())


def holes_of(spec: Spec, language: Language, rules: Mapping[str, str] | None = None) -> Holes:
    """What `spec` puts into the skeleton, with its rules or others in comments. Raises LoweringError."""
    stages = spec.paths[0].stages
    printer = _printer(language, rules or rules_of(spec))
    logits = [statement for stage in stages if stage.kind == "modifier" for statement in _modified(spec, stage, language)]
    kept, backward, factor = _reversed(spec, logits)
    bodies = {
        "_logits": printer.block((*logits, Line("return logits"))),
        "_d_product": printer.block((*kept, *backward, Line("return d_logits"))),
        "_attends": _conjunction(spec, [stage for stage in stages if stage.kind == "mask"], printer, "attends", "s"),
        "_keeps": _conjunction(spec, [stage for stage in stages if stage.kind == "rows"], printer, "keeps", "t"),
        "_run_of_keys": _run(spec, printer, of_keys=True),
        "_run_of_queries": _run(spec, printer, of_keys=False),
    }
    for stage in stages:
        if stage.clause == SINK:
            bodies["_sink"] = _sink(spec, stage, printer)
        if stage.kind == "dropout":
            bodies["_dropped"] = _dropped(spec, stage, printer)
    for name in differentiable(spec):
        bodies[f"_d_{name}"] = _d_operand(spec, logits, name, printer)
    left_over = printer.operand(factor, ATOM) if factor is not None else ""
    return Holes(bodies, _placeholders(spec, bodies, language), left_over, bool(backward), _flags(spec))


def _flags(spec: Spec) -> dict[str, bool]:
    """Which parts of the skeleton there are."""
    return {
        "UNIFORM": spec.paths[0].policies["empty_row"].value == "uniform",
        "SPLITS": spec.paths[0].policies["empty_row"].value != "uniform",
        "ROWS": any(stage.kind == "rows" for stage in spec.paths[0].stages),
        "SINK": any(stage.clause == SINK for stage in spec.paths[0].stages),
        "DROPOUT": any(stage.kind == "dropout" for stage in spec.paths[0].stages),
        "OPERANDS": bool(differentiable(spec)),
    }


def _placeholders(spec: Spec, bodies: Mapping[str, str], language: Language) -> dict[str, tuple[str, ...]]:
    """What each placeholder of the skeleton stands for. Of a hole it is what its body reads."""
    every = parameters_of(spec)

    def read(*holes: str, first: tuple[str, ...] = language.indices, last: tuple[str, ...] = ()) -> tuple[str, ...]:
        code = re.sub("#.*", "", "\n".join(bodies[hole] for hole in holes))
        words = set(re.findall(r"\w+", code))
        return tuple(name for name in (*first, *(each.name for each in every), *last) if name in words)

    blocks = {"first": language.block_indices, "last": ("BLOCK_T", "BLOCK_S")}
    return {
        "logit_parameters": read("_logits", "_d_product", *(f"_d_{name}" for name in differentiable(spec))),
        "mask_parameters": read("_attends"),
        "block_parameters": read("_run_of_keys", "_run_of_queries", **blocks),
        "row_parameters": read("_keeps"),
        "sink_parameters": read("_sink") if "_sink" in bodies else (),
        "dropout_parameters": read("_dropped", first=("b", "n", "N")) if "_dropped" in bodies else (),
        **language.listed(every),
    }


def _modified(spec: Spec, stage: Stage, language: Language) -> Iterator[Statement]:
    """The statements of a modifier: what it loads, and the logits that it makes; under its guard, if it has one."""
    loaded = _looked_up(spec, stage, language)
    rule = loaded.named(_written_out(spec, stage.expression))
    logits = Assign(_LOGITS, _lowered(rule, stage.clause, tuple(loaded.loads)), stage.clause)
    floating = {n: value if n.startswith(WHOLE) else language.to_float32.format(value) for n, value in loaded.loads.items()}
    loads = (Assign(Ref(name), Ref(value), stage.clause) for name, value in floating.items())
    body = (*loads, logits)
    yield from body if stage.when is None else (If(_in_kernel(spec, stage.when), body, (), stage.clause),)


def _looked_up(spec: Spec, stage: Stage, language: Language) -> Loaded:
    """What a stage looks up, tile by tile."""
    printer = _printer(language, {})

    def printed(index: Expression, loads: Iterable[str]) -> str:
        return printer.node(_lowered(index, stage.clause, tuple(loads)))[0]

    return Loaded(language, printed, sizes_of_tables(spec))


def _printer(language: Language, rules: Mapping[str, str]) -> _KernelPrinter:
    return _KernelPrinter(language.target, batched=False, rules=rules, language=language)


def _written_out(spec: Spec, expression: Expression) -> Expression:
    """A rule with the indices of the call's own tensors."""
    vocabulary = vocabulary_of(spec)
    tensors = {name: indices for name, indices in vocabulary.tensors.items() if name in operands_of(spec)}
    return replace(vocabulary, tensors=tensors).written_out(expression)


def _lowered(rule: Expression, clause: str, loaded: tuple[str, ...] = ()) -> Node:
    """A rule over tiles: logits, t, s and what is loaded are of one shape, everything else is a number."""
    tensors = {"logit": _LOGITS} | {name: Ref(name, _TILE) for name in ("t", "s", *loaded)}
    return lower(rule, _TILE, Scope(tensors, dict.fromkeys(tensors, _TILE), {"tile": "TILE"}), clause)


def _reversed(spec: Spec, logits: list[Statement]) -> tuple[tuple[Statement, ...], tuple[Statement, ...], Node | None]:
    """What the derivative needs of the logits again, the derivative, and the constant factor in which it ends.

    That factor is left to the end of a kernel: there it meets sums in float32, and far fewer of them.
    """
    forward, found = reverse_stages(spec, tuple(logits), _LOGITS)
    returned = (Line("return d_logits"),)
    backward = list(pruned(tuple(found), returned))
    factor: Node | None = None
    while backward and (last := _constant_factor(backward[-1])) is not None:
        backward.pop()
        factor = last if factor is None else Op("mul", (last, factor), None)
    return pruned(tuple(forward), (*backward, *returned)), tuple(backward), factor


def _d_operand(spec: Spec, logits: list[Statement], name: str, printer: _KernelPrinter) -> str:
    """The gradient of what the logits read of a tensor, from that of the logits."""
    forward, backward = reverse_stages(spec, tuple(logits), _LOGITS)
    read = next(each for each in _loads(spec, printer.language) if each.rpartition("_")[0] == name)
    returned = (Line(f"return d_{read}"),)
    backward = list(pruned(tuple(backward), returned))
    return printer.block((*pruned(tuple(forward), (*backward, *returned)), *backward, *returned))


def _loads(spec: Spec, language: Language) -> Iterator[str]:
    """The names of what modifiers load."""
    for stage in spec.paths[0].stages:
        if stage.kind == "modifier":
            loaded = _looked_up(spec, stage, language)
            loaded.named(_written_out(spec, stage.expression))
            yield from loaded.loads


def _constant_factor(statement: Statement) -> Node | None:
    """`scale` of `d_logits = d_logits * scale`."""
    match statement:
        case Assign(Ref("d_logits"), Op("mul", (Ref("d_logits"), factor))) if factor.dims is None:
            return factor
    return None


def _dropped(spec: Spec, stage: Stage, printer: _KernelPrinter) -> str:
    """Weights of 0 or scaled; without a seed there is no dropout in this call."""
    rate, loaded = to_text(stage.expression), _looked_up(spec, stage, printer.language)
    is_cut = any(argument.name == ORIGIN for argument in spec.arguments)
    places = {index: to_text(loaded.named(counted(Name(index)))) if is_cut else index for index in FIRST}
    return "\n".join(
        [
            printer.comment(stage.clause),
            f"if {SEED} is not None:",
            *map(indent, loaded.lines()),
            indent(f"kept = {printer.language.drawn.format(**places)} >= {rate}"),
            indent(f"weights = {printer.language.functions}.where(kept, weights / (1 - {rate}), 0.0)"),
            "return weights",
        ]
    )


def _sink(spec: Spec, stage: Stage, printer: _KernelPrinter) -> str:
    """The logit of a sink for every row."""
    loaded = _looked_up(spec, stage, printer.language)
    logit = loaded.named(_written_out(spec, stage.expression))
    result = f"return {printer.language.functions}.zeros_like(rows) + {to_text(logit)}"
    return "\n".join([printer.comment(stage.clause), *loaded.lines(), result])


def _conjunction(spec: Spec, stages: list[Stage], printer: _KernelPrinter, result: str, index: str) -> str:
    """What has to hold of query t and key s, or of a row: a line for each stage, after what it looks up."""
    if not stages:
        return f"return {index} >= 0"
    if len(stages) == 1 and stages[0].when is None:
        loads, test = _test(spec, stages[0], printer, 0, {})
        return "\n".join([*loads, printer.comment(stages[0].clause), f"return {test}"])
    guarded = stages[0].when is not None
    start = "(t >= 0) & (s >= 0)" if index == "s" else "t >= 0"
    lines = [f"{result} = {start}"] if guarded else []
    loaded: dict[str, str] = {}
    for number, stage in enumerate(stages):
        loads, test = _test(spec, stage, printer, ATOM, loaded if stage.when is None else dict(loaded))
        value = f"{result} & {test}" if number or guarded else test
        lines += [printer.comment(stage.clause), *_guarded(spec, stage, [*loads, f"{result} = {value}"], printer)]
    return "\n".join([*lines, f"return {result}"])


def _test(spec: Spec, stage: Stage, printer: _KernelPrinter, precedence: int, before: dict[str, str]) -> tuple[list[str], str]:
    """What a predicate loads that those before it have not, and the predicate."""
    loaded, known = replace(_looked_up(spec, stage, printer.language), loads=before), len(before)
    rule = loaded.named(vocabulary_of(spec).written_out(stage.expression))
    return loaded.lines()[known:], printer.operand(_lowered(rule, stage.clause, tuple(loaded.loads)), precedence)


def _guarded(spec: Spec, stage: Stage, lines: list[str], printer: Printer) -> list[str]:
    """The lines under the guard of a stage, if it has one."""
    if stage.when is None:
        return lines
    return [f"if {printer.guard(_in_kernel(spec, stage.when))[0]}:", *(indent(line) for line in lines)]


def _in_kernel(spec: Spec, guard: Expression) -> Expression:
    """A guard over what a kernel is given: of sizes that are one argument, the first says whether they are there."""
    return substitute(guard, {a.name: Name(a.names[0]) for a in spec.arguments if a.names})


def _run(spec: Spec, printer: _KernelPrinter, *, of_keys: bool) -> str:
    """The body of the function that says which blocks a loop visits: over keys, or with both sides swapped over queries.

    Masks that always hold are analysed together. Any other is on its own, under its guard: what it hides is skipped.
    """
    size = "S" if of_keys else "T"
    masks = [stage for stage in spec.paths[0].stages if stage.kind == "mask"]
    always, guarded = ([m for m in masks if (m.when is None) is unguarded] for unguarded in (True, False))
    begin = ["seen, hidden, high = low < end, False, end"] if guarded and not always else []
    if not begin:
        blocks, text = _formulas(spec, always, printer, of_keys)
        calls = [*_calls("seen", blocks.seen, "False", "end", text), *_calls("hidden", blocks.hidden, "False", "high", text)]
        begin = [*text.loaded.lines(), *calls]
    for stage in guarded:
        blocks, text = _formulas(spec, [stage], printer, of_keys)
        calls = [*_calls("meets", blocks.seen, "False", "high", text), "seen = seen & meets"]
        calls += _calls("hidden", blocks.hidden, "hidden", "high", text)
        begin += [printer.comment(stage.clause), *_guarded(spec, stage, [*text.loaded.lines(), *calls], printer)]
    last = "hidden" if guarded or blocks.hidden else "False"
    begin.append(f"hidden, high = _meets(low, high, {size}, end, {last}, BLOCK)")  # it may be longer than the sequence
    lines = [f"end = {printer.language.ceiling}({size}, BLOCK) * BLOCK"]
    lines += (
        [f"after = {printer.language.functions}.minimum(low + BLOCK, {size})"] if any("after" in line for line in begin) else []
    )
    return "\n".join([*lines, *begin, "return high // BLOCK * BLOCK, seen, hidden"])


@dataclass
class _Formulas:
    """Formulas about a block as a kernel has them, and what they look up."""

    printer: _KernelPrinter
    of_keys: bool
    loaded: Loaded
    tables: frozenset[str]

    @property
    def size(self) -> str:
        return "S" if self.of_keys else "T"

    def is_costly(self, test: Expression) -> bool:
        """Whether a test asks for values in common, of which what is lowest and highest says enough, or for some entry of a
        mask, all of which would have to be read; those of a table are few, and read again and again."""
        match test:
            case Call("some", (Access(tensor, _),)):
                return tensor not in self.tables
            case Call("some" | "meet", _):
                return True
        return False

    def __call__(self, expression: Expression) -> str:
        mapping = _BLOCK_ENDS if self.of_keys else {**_BLOCK_ENDS, "T": Name("S"), "S": Name("T")}
        return _scalar(self.loaded.named(substitute(expression, mapping)), self.printer)


def _formulas(spec: Spec, masks: list[Stage], printer: _KernelPrinter, of_keys: bool) -> tuple[Blocks, _Formulas]:
    """The blocks of a conjunction of masks, and what prints formulas about them."""
    own, other = ("BLOCK_S", "BLOCK_T") if of_keys else ("BLOCK_T", "BLOCK_S")
    ranges = {"t": f"start, stop, {other}", "s": f"low, after, {own}"}
    tiles = {index: tile.format(own=own, other=other) for index, tile in printer.language.tiles.items()}
    sizes, tables = sizes_of_tables(spec), frozenset(p.name for p in parameters_of(spec) if is_table(p.argument))
    loaded = Loaded(printer.language, lambda index, _: _scalar(index, printer), sizes, ranges, tiles)
    return blocks_of(spec, masks, of_keys), _Formulas(printer, of_keys, loaded, tables)


def _scalar(formula: Expression, printer: Printer) -> str:
    """A formula about a block, whose names are numbers."""
    return printer.node(lower(formula, (), Scope({}, {}, {}), "blocks"))[0]


def _calls(name: str, regions: tuple[Region, ...], already: str, high: str, text: _Formulas) -> list[str]:
    """`seen, high = _meets(...)`, one for each region, each with what those before it found."""
    lines = []
    for region in regions:
        lines.append(f"{name}, high = {_call(region, already, high, text)}")
        already, high = name, "high"
    return lines


def blocks_of(spec: Spec, masks: list[Stage], of_keys: bool) -> Blocks:
    """The blocks of keys that a block of queries sees; or with both sides swapped, of queries by a block of keys."""
    vocabulary = vocabulary_of(spec)
    rules = (vocabulary.written_out(stage.expression) for stage in masks)
    return analyse((rule if of_keys else fold(substitute(rule, _SWAPPED)) for rule in rules), vocabulary)


def _call(region: Region, already: str, high: str, text: _Formulas) -> str:
    """The call for a region: of its range, stop at 0 where the block does not fulfil what it needs, and of its own test."""
    first = text(joined("max", [low.expression() for low in region.lows]) if region.lows else Number(0))
    stop = text(joined("min", [high.expression() for high in region.highs])) if region.highs else text.size
    given = all_of(region.given)
    if given is not None:
        stop = f"{text.printer.language.functions}.where({text(given)}, {stop}, {text.printer.language.zero})"
    test = None if region.bounded else all_of(test for test in region.meets if not text.is_costly(test))
    if test is None:
        return f"_meets(low, {high}, {first}, {stop}, {already}, BLOCK)"
    return f"_meets_where({text(test)}, low, {high}, {first}, {stop}, {already}, BLOCK)"


def joined(function: str, parts: list[Expression]) -> Expression:
    """`min(a, min(b, c))`: those of kernels take two."""
    first, *rest = parts
    return Call(function, (first, joined(function, rest))) if rest else first


@dataclass
class _KernelPrinter(Printer):
    """Tiles and scalars alike: `&` for `and`, the language's functions, and division that rounds down."""

    language: Language = field(kw_only=True)

    def node(self, node: Node) -> Printed:
        match node:
            case Op("and" | "or" as name, arguments):
                return self.infix("&" if name == "and" else "|", 7 if name == "and" else 6, arguments)
            case Op("min" | "max" | "not" as name, arguments):
                printed = [self.operand(argument, ATOM if name == "not" else 0) for argument in arguments]
                return str(self.target.ops[name]).format(*printed), ATOM
            case Op("pow", (base, Const(2))):
                return f"_square({self.node(base)[0]})", ATOM
            case Op("pow", _):
                raise LoweringError(f"{self.target.name}: powers other than squares are not compiled")
            case Op("floordiv" | "mod" as name, (left, right)) if not (
                self.language.rounds_down or (_never_negative(left) and _never_negative(right))
            ):
                function = "_floor_divide" if name == "floordiv" else "_remainder"
                return f"{function}({self.node(left)[0]}, {self.node(right)[0]})", ATOM
        return super().node(node)


def _never_negative(node: Node) -> bool:
    match node:
        case Ref(name):
            return name in ("t", "s", "T", "S", "start", "stop", "low", "high")
        case Const(int(value)):
            return value >= 0
        case Op("add" | "mul" | "floordiv" | "mod", arguments):
            return all(map(_never_negative, arguments))
    return False
