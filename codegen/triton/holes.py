"""What a spec puts into the skeleton's holes: its logits and their derivative, its masks, and the blocks these let through.

Inside a kernel everything is a tile of queries by keys, or of keys by queries: t and s come with an axis for each, so that a
rule reads as the spec has it. Scalars are arguments of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attnspec.codegen.blocks.analysis import Blocks, all_of, analyse
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.derivative import pruned, reverse_stages
from attnspec.codegen.index_notation import LoweringError, Scope, lower
from attnspec.codegen.module import rules_of
from attnspec.codegen.printer import ATOM, Printed, Printer, Target
from attnspec.codegen.program import Assign, Const, Line, Node, Op, Ref, Statement
from attnspec.codegen.triton.operands import Loaded, in_kernel, operands_of
from attnspec.spec.expression import Call, Expression, Name, Number, fold, names, substitute
from attnspec.spec.model import Spec, Stage

_TILE = ("TILE",)
_LOGITS = Ref("logits", _TILE)
_KERNEL = Target(
    name="triton",
    ops={
        "not": "~{0}",
        "where": "tl.where({0}, {1}, {2})",
        "min": "tl.minimum({0}, {1})",
        "max": "tl.maximum({0}, {1})",
        "floor": "tl.floor({0})",
        "exp": "tl.exp({0})",
        "log": "tl.log({0})",
        "tanh": "_tanh({0})",
        "sigmoid": "tl.sigmoid({0})",
        "abs": "tl.abs({0})",
    },
    guards={},
    infinity='float("-inf")',
    float32="tl.float32",
    fill_max="",
    array_type="",
    imports=(),
)
_BLOCK_ENDS = {"high": Name("after")}  # in a kernel `high` is the end of the run
_SWAPPED = {"t": Name("s"), "s": Name("t"), "T": Name("S"), "S": Name("T")}


@dataclass(frozen=True)
class Holes:
    """The bodies of the hole functions, and the scalars that the skeleton's placeholders stand for."""

    bodies: dict[str, str]
    placeholders: dict[str, tuple[str, ...]]
    factor: str
    """What the gradients of the products are multiplied by at the end; empty where nothing is left."""
    derived: bool
    """Whether the derivative of the logits is more than that factor."""


def holes_of(spec: Spec) -> Holes:
    """What `spec` puts into the skeleton. Raises LoweringError."""
    stages = spec.paths[0].stages
    logits = [_assigned(stage) for stage in stages if stage.kind == "modifier"]
    masks = [stage for stage in stages if stage.kind == "mask"]
    kept, backward, factor = _reversed(spec, logits)
    printer = _KernelPrinter(_KERNEL, batched=False, rules=rules_of(spec))
    bodies = {
        "_logits": printer.block((*logits, Line("return logits"))),
        "_d_product": printer.block((*kept, *backward, Line("return d_logits"))),
        "_attends": _attends(spec, masks, printer),
        "_run_of_keys": _run(spec, printer, of_keys=True),
        "_run_of_queries": _run(spec, printer, of_keys=False),
    }
    left_over = printer.operand(factor, ATOM) if factor is not None else ""
    return Holes(bodies, _placeholders(spec), left_over, bool(backward))


def _placeholders(spec: Spec) -> dict[str, tuple[str, ...]]:
    """What each placeholder of the skeleton stands for. Who looks into tensors needs to know where."""
    stages, operands = spec.paths[0].stages, operands_of(spec)
    rest = [a.name for a in spec.arguments if a.name not in ("query", "key", "value")]
    scalars = [name for name in rest if name not in operands]
    read = {kind: set().union(*(names(s.expression) for s in stages if s.kind == kind)) for kind in ("modifier", "mask")}
    of_masks, tensors = [name for name in scalars if name in read["mask"]], in_kernel(operands)
    return {
        "logit_parameters": tuple(name for name in scalars if name in read["modifier"]),
        "mask_parameters": (*of_masks, *(("b", "T", "S", *tensors) if operands else ())),
        "block_parameters": (*of_masks, *(("b", *tensors, "BLOCK_T", "BLOCK_S") if operands else ())),
        "parameters": tuple(part for name in rest for part in (in_kernel([name]) if name in operands else (name,))),
        "given": tuple(part for name in rest for part in ((name, f"{name}.stride()") if name in operands else (name,))),
    }


def _assigned(stage: Stage) -> Assign:
    return Assign(_LOGITS, _lowered(stage.expression, stage.clause), stage.clause)


def _lowered(rule: Expression, clause: str, loaded: tuple[str, ...] = ()) -> Node:
    """A rule over tiles: logits, t, s and what is loaded are of one shape, everything else is a number."""
    tensors = {"logit": _LOGITS} | {name: Ref(name, _TILE) for name in ("t", "s", *loaded)}
    return lower(rule, _TILE, Scope(tensors, dict.fromkeys(tensors, _TILE), {"tile": "TILE"}), clause)


def _reversed(spec: Spec, logits: list[Assign]) -> tuple[tuple[Statement, ...], tuple[Statement, ...], Node | None]:
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


def _constant_factor(statement: Statement) -> Node | None:
    """`scale` of `d_logits = d_logits * scale`."""
    match statement:
        case Assign(Ref("d_logits"), Op("mul", (Ref("d_logits"), factor))) if factor.dims is None:
            return factor
    return None


def _attends(spec: Spec, masks: list[Stage], printer: Printer) -> str:
    """The conjunction of the masks, a line for each, after what they look up."""
    if not masks:
        return "return s >= 0"
    loaded, several, lines = Loaded(), len(masks) > 1, list[str]()
    for number, stage in enumerate(masks):
        rule = loaded.named(vocabulary_of(spec).written_out(stage.expression))
        test = printer.operand(_lowered(rule, stage.clause, tuple(loaded.loads)), ATOM if several else 0)
        value = f"attends & {test}" if number else test
        lines += [printer.comment(stage.clause), f"attends = {value}" if several else f"return {value}"]
    return "\n".join([*loaded.lines(), *lines, *(["return attends"] if several else [])])


def _run(spec: Spec, printer: Printer, *, of_keys: bool) -> str:
    """The body of the function that says which blocks a loop visits: over keys, or with both sides swapped over queries."""
    blocks, size = blocks_of(spec, of_keys), "S" if of_keys else "T"
    own, other = ("BLOCK_S", "BLOCK_T") if of_keys else ("BLOCK_T", "BLOCK_S")
    loaded = Loaded({"t": f"start, stop, {other}", "s": f"low, after, {own}"})

    def text(expression: Expression) -> str:
        mapping = _BLOCK_ENDS if of_keys else {**_BLOCK_ENDS, "T": Name("S"), "S": Name("T")}
        return printer.node(lower(loaded.named(substitute(expression, mapping)), (), Scope({}, {}, {}), "blocks"))[0]

    sides: list[tuple[str, list[str]]] = []
    for name, regions in (("seen", blocks.seen), ("hidden", blocks.hidden)):
        sides.append((name, [_call(region, size, text) for region in regions]))
    sides[1][1].append(
        f"_meets(low, {{high}}, {size}, end, {{already}}, BLOCK)"
    )  # the last block may be longer than the sequence
    tested = any("_meets_where" in call for _, calls in sides for call in calls)
    lines = [f"end = tl.cdiv({size}, BLOCK) * BLOCK"]
    lines += [f"after = tl.minimum(low + BLOCK, {size})"] if tested else []
    lines += loaded.lines()
    return "\n".join([*lines, *_calls(sides), "return high // BLOCK * BLOCK, seen, hidden"])


def _calls(sides: list[tuple[str, list[str]]]) -> Iterator[str]:
    """`seen, high = _meets(...)`, one for each region, each with what those before it found."""
    high = "end"
    for name, calls in sides:
        for number, call in enumerate(calls):
            yield f"{name}, high = {call.format(already=name if number else False, high=high)}"
            high = "high"


def blocks_of(spec: Spec, of_keys: bool) -> Blocks:
    """The blocks of keys that a block of queries sees; or with both sides swapped, of queries by a block of keys."""
    vocabulary = vocabulary_of(spec)
    masks = (vocabulary.written_out(stage.expression) for stage in spec.paths[0].stages if stage.kind == "mask")
    return analyse((mask if of_keys else fold(substitute(mask, _SWAPPED)) for mask in masks), vocabulary)


def _call(region: Region, size: str, text: Callable[[Expression], str]) -> str:
    """The call for a region: of its range, stop at 0 where the block does not fulfil what it needs, and of its own test."""
    first = text(joined("max", [low.expression() for low in region.lows]) if region.lows else Number(0))
    stop = text(joined("min", [high.expression() for high in region.highs])) if region.highs else size
    given = all_of(region.given)
    if given is not None:
        stop = f"tl.where({text(given)}, {stop}, 0)"
    test = None if region.bounded else all_of(test for test in region.meets if not _is_meeting(test))
    if test is None:
        return f"_meets(low, {{high}}, {first}, {stop}, {{already}}, BLOCK)"
    return f"_meets_where({text(test)}, low, {{high}}, {first}, {stop}, {{already}}, BLOCK)"


def _is_meeting(test: Expression) -> bool:
    """Whether a test asks for values in common: what is lowest and highest on both sides says enough."""
    return isinstance(test, Call) and test.function == "meet"


def joined(function: str, parts: list[Expression]) -> Expression:
    """`min(a, min(b, c))`: Triton's take two."""
    first, *rest = parts
    return Call(function, (first, joined(function, rest))) if rest else first


class _KernelPrinter(Printer):
    """Tiles and scalars alike: `&` for `and`, functions of Triton, and division that rounds down."""

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
                raise LoweringError("triton: powers other than squares are not compiled")
            case Op("floordiv" | "mod" as name, (left, right)) if not (_never_negative(left) and _never_negative(right)):
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
