"""What a spec puts into the skeleton's holes: its logits and their derivative, its masks, and the blocks these let through.

Inside a kernel everything is a tile of queries by keys, or of keys by queries: t and s come with an axis for each, so that a
rule reads as the spec has it. Scalars are arguments of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnspec.codegen.blocks.analysis import Blocks, all_of, analyse
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.derivative import pruned, reverse_stages
from attnspec.codegen.index_notation import LoweringError, Scope, lower
from attnspec.codegen.module import rules_of
from attnspec.codegen.printer import ATOM, Printed, Printer, Target
from attnspec.codegen.program import Assign, Const, Line, Node, Op, Ref, Statement
from attnspec.spec.expression import Expression, Name, fold, names, substitute
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
    scalars = [argument.name for argument in spec.arguments if argument.role != "tensor"]
    read = {
        "logit_parameters": frozenset().union(*(names(s.expression) for s in stages if s.kind == "modifier")),
        "mask_parameters": frozenset().union(*(names(stage.expression) for stage in masks)),
    }
    placeholders = {hole: tuple(name for name in scalars if name in used) for hole, used in read.items()}
    printer = _KernelPrinter(_KERNEL, batched=False, rules=rules_of(spec))
    bodies = {
        "_logits": printer.block((*logits, Line("return logits"))),
        "_d_product": printer.block((*kept, *backward, Line("return d_logits"))),
        "_attends": _attends(masks, printer),
        "_run_of_keys": _run(spec, printer, of_keys=True),
        "_run_of_queries": _run(spec, printer, of_keys=False),
    }
    left_over = printer.operand(factor, ATOM) if factor is not None else ""
    return Holes(bodies, placeholders | {"parameters": tuple(scalars)}, left_over, bool(backward))


def _assigned(stage: Stage) -> Assign:
    return Assign(_LOGITS, _lowered(stage.expression, stage.clause), stage.clause)


def _lowered(rule: Expression, clause: str) -> Node:
    """A rule over tiles: logits, t and s are of one shape, everything else is a number."""
    tensors = {"logit": _LOGITS, "t": Ref("t", _TILE), "s": Ref("s", _TILE)}
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


def _attends(masks: list[Stage], printer: Printer) -> str:
    """The conjunction of the masks, a line for each."""
    if not masks:
        return "return s >= 0"
    lines: list[str] = []
    for stage in masks:
        test = printer.operand(_lowered(stage.expression, stage.clause), ATOM if len(masks) > 1 else 0)
        value = f"attends & {test}" if lines else test
        lines += [printer.comment(stage.clause), f"attends = {value}" if len(masks) > 1 else f"return {value}"]
    return "\n".join([*lines, "return attends"] if len(masks) > 1 else lines)


def _run(spec: Spec, printer: Printer, *, of_keys: bool) -> str:
    """The body of the function that says which blocks a loop visits: over keys, or with both sides swapped over queries."""
    blocks, size = blocks_of(spec, of_keys), "S" if of_keys else "T"
    seen = [_call(region, size, of_keys, printer) for region in blocks.seen]
    hidden = [_call(region, size, of_keys, printer) for region in blocks.hidden]
    hidden.append(f"{size}, end")  # the last block may be longer than the sequence
    lines = [f"end = tl.cdiv({size}, BLOCK) * BLOCK"]
    for name, calls in (("seen", seen), ("hidden", hidden)):
        for number, call in enumerate(calls):
            high = "end" if len(lines) == 1 else "high"
            lines.append(f"{name}, high = _meets(low, {high}, {call}, {name if number else False}, BLOCK)")
    return "\n".join([*lines, "return high // BLOCK * BLOCK, seen, hidden"])


def blocks_of(spec: Spec, of_keys: bool) -> Blocks:
    """The blocks of keys that a block of queries sees; or with both sides swapped, of queries by a block of keys."""
    masks = (stage.expression for stage in spec.paths[0].stages if stage.kind == "mask")
    return analyse((mask if of_keys else fold(substitute(mask, _SWAPPED)) for mask in masks), vocabulary_of(spec))


def _call(region: Region, size: str, of_keys: bool, printer: Printer) -> str:
    """`first, stop` of a region, stop at 0 where the block does not fulfil what it needs."""

    def text(expressions: Iterable[Expression], function: str, otherwise: str) -> str:
        nodes = [_scalar(e if of_keys else substitute(e, {"T": Name("S"), "S": Name("T")})) for e in expressions]
        return printer.node(_nested(function, nodes) if nodes else Ref(otherwise))[0]

    first = text((low.expression() for low in region.lows), "max", "0")
    stop = text((high.expression() for high in region.highs), "min", size)
    given = all_of(region.given)
    if given is not None:
        stop = f"tl.where({text([given], 'and', '')}, {stop}, 0)"
    return f"{first}, {stop}"


def _scalar(expression: Expression) -> Node:
    return lower(expression, (), Scope({}, {}, {}), "blocks")


def _nested(function: str, nodes: list[Node]) -> Node:
    first, *rest = nodes
    return Op(function, (first, _nested(function, rest)), None) if rest else first


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
