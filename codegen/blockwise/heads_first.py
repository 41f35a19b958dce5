"""What both forms over arrays with heads in front have in common: the stages on blocks, and which keys these visit.

The logits' stages and the products after the softmax are the direct form's own, lowered on blocks; what lies between them, the
loops and their softmax, is a skeleton of each framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import reduce

from attnspec.codegen.blocks.analysis import all_of
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blockwise.choice import chosen
from attnspec.codegen.blockwise.coverage import BLOCKED, lookups, scalars
from attnspec.codegen.blockwise.layouts import Layouts
from attnspec.codegen.blockwise.lookups import along, blocks_of, extremes
from attnspec.codegen.derivative import pruned, reverse_stages
from attnspec.codegen.explicit_casts import explicit_casts
from attnspec.codegen.index_notation import Scope, lower
from attnspec.codegen.lower import Body
from attnspec.codegen.module import aliases, rules_of, signature_text
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Assign, Const, Dims, Line, Node, Op, Program, Ref, Statement
from attnspec.codegen.prologue import prologue
from attnspec.spec.expression import names
from attnspec.spec.model import Spec

HEADS_FIRST: dict[str, Dims] = {
    "query": ("B", "N", "T", "H"), "key": ("B", "K", "S", "H"), "value": ("B", "K", "S", "V"), "output": ("B", "N", "T", "V"),
}  # fmt: skip
"""How blocks lie in memory, whatever the layout of the call: a product of two of them moves nothing."""
ENDS = ("stop", "high")
"""The ends of a block of queries and of one of keys."""
_BLOCK_SIZES = {"T": "rows", "S": "columns"}
_BLOCK: Dims = ("BLOCK",)
LOWEST = Ref("compute.min")
"""The least number that logits can be."""
_KINDS = {"logits": "compute", "weights": "compute", "d_logits": "compute", LOWEST.name: "number", "_LOWEST": "number"}
"""The kinds of what the skeletons assign."""


def public(spec: Spec, target: Target, function: str, auto: bool) -> str:
    """The documented function: the direct form's checks, then the loops."""
    lines = chosen(spec, target, auto, f"{function}({', '.join((*BLOCKED, *others(spec)))})")
    body = Printer(target, batched=False).function_body(Program(spec.function_name, (*prologue(spec), *lines), batched=False))
    return f"{signature_text(spec, target)}\n{indent(body)}"


def seen_blocks(spec: Spec, target: Target) -> tuple[str, list[str]]:
    """Whether queries see some of a block of keys, and what this depends on beside their beginnings."""
    met = [_met(region) for region in blocks_of(spec, in_lists=False).seen]
    seen = reduce(lambda one, other: Op("or", (one, other), _BLOCK), met) if met else Const(False)
    text = Printer(target, batched=False).node(seen)[0]
    words = re.findall(r"\w+", text)
    looked_up = (name for name in lookups(spec) if {*extremes(name)} & {*words})
    return text, [*looked_up, *(name for name in (*scalars(spec), *ENDS) if name in words)]


def others(spec: Spec) -> list[str]:
    """The arguments beside query, key and value."""
    return [*lookups(spec), *scalars(spec)]


def _met(region: Region) -> Node:
    """Whether blocks of keys meet a region: everything that the test reads is an array, or becomes one."""
    meets = all_of(region.meets)
    if meets is None:
        return Const(True)
    arrays = {name: Ref(name, _BLOCK) for name in names(meets)}
    return lower(meets, _BLOCK, Scope(arrays, dict.fromkeys(arrays, _BLOCK), {"block": "BLOCK"}), "blocks")


class HeadsFirst:
    """The stages of a spec on blocks with heads in front, as text."""

    def __init__(self, spec: Spec, target: Target, shape: str = "{}.shape") -> None:
        self.spec = spec
        self.layouts = Layouts(spec, shape)
        sizes = {**aliases(spec), **_BLOCK_SIZES}
        self.printer = Printer(target, batched=False, sizes=sizes, rules=rules_of(spec))
        self.logits, self.combine = self.stages()

    def stages(self) -> tuple[list[Assign], list[Statement]]:
        """The direct form's stages on blocks: up to the masked logits, and after the softmax."""
        whole = self.layouts.scope
        tensors = {**whole.tensors, **{name: Ref(f"{name}_block", HEADS_FIRST[name]) for name in BLOCKED}}
        tensors |= {name: Ref(f"{name}_block", self.layouts.dims(name)) for name in self.entries("T", "S")}
        scope = Scope(tensors, whole.canonical, whole.indices)
        body = Body(replace(self.spec, outputs=()), self.spec.paths[0], scope, frozenset())
        softmax = next(stage for stage in self.spec.paths[0].stages if stage.kind == "softmax")
        lowered = [s for s in body.stages() if isinstance(s, Assign) and not _is_head(s)]
        first = next(at for at, s in enumerate(lowered) if s.clause in ("policy.empty_row", softmax.clause))
        last = max(at for at, s in enumerate(lowered) if s.clause in ("policy.empty_row", softmax.clause))
        self.softmax = softmax.clause
        return list(lowered[:first]), list(map(_unrounded, lowered[last + 1 :]))

    def entries(self, *dims: str) -> list[str]:
        """The tensors of integers with an entry for each query, or key, that masks look up."""
        return [name for name in lookups(self.spec) if along(self.spec, name) in dims]

    def again(self, weights: Iterable[Statement], mean: str, last: str) -> Iterator[Statement]:
        """The backward pass on a block: the logits again, `weights` from them, gradients of the blocks, the last line.

        `mean` is that of the gradients of a row of weights, under these weights.
        """
        logits, d_logits = reverse_stages(self.spec, tuple(self.logits), Ref("logits", self.spec.tensors["logit"]))
        product, d_weights = reverse_stages(self.spec, tuple(self.combine), Ref("output", HEADS_FIRST["output"]))
        changes = Line(f"d_logits = weights_of_rows * (d_weights - {mean})", self.softmax)
        tail = (*d_weights, changes, *d_logits, Line(last))
        yield from (*logits, *weights, *pruned(tuple(product), tail), *tail)

    def text(self, *statements: Statement) -> str:
        if self.printer.target.explicit_casts:
            program = Program(self.spec.function_name, statements, batched=False)
            statements = explicit_casts(self.spec, program, _KINDS).body
        return self.printer.branch(statements, "")

    def heads_first(self, name: str, variable: str = "") -> str:
        """An array of the call in the order of blocks: `query.transpose(0, 2, 1, 3)`."""
        return self.transposed(Ref(variable or name, self.layouts.dims(name)), HEADS_FIRST[name])

    def transposed(self, ref: Ref, dims: Dims) -> str:
        return self.printer.node(ref if ref.dims == dims else Op("transpose", (ref,), dims))[0]


def at_level(level: int, text: str) -> str:
    """A text so many levels further in."""
    return text if level == 0 else at_level(level - 1, indent(text))


def _is_head(statement: Assign) -> bool:
    """What every block has in common, or has from the loops: dtypes and index grids."""
    grid = isinstance(statement.value, Op) and statement.value.name == "arange"
    return grid or statement.target.name in ("dtype", "compute")


def _unrounded(statement: Assign) -> Statement:
    """The last product without its cast: what is added up or divided yet is rounded once."""
    if statement.target.name != "output":
        return statement
    assert isinstance(statement.value, Op) and statement.value.name == "cast"
    return replace(statement, value=statement.value.arguments[0])
