"""The form by rows: a loop over blocks of queries that visits only the keys that the masks let a block see.

A block holds all keys that its queries see, so its softmax is that of whole rows. Memory grows with T, not with T times S:
nothing but the inputs is kept, the backward pass computes the weights again. Stages, masks and derivatives are the direct
form's own, lowered on slices; masks are tested only where `blocks.analysis` finds that they may hide something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from attnspec.codegen.blocks.analysis import all_of, high_text, low_text
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blockwise.coverage import BLOCKED, lookups, scalars
from attnspec.codegen.blockwise.layouts import Layouts
from attnspec.codegen.blockwise.lookups import along, blocks_of, calls, extremes
from attnspec.codegen.blockwise.scaling import scaled_queries
from attnspec.codegen.derivative import reverse_stages
from attnspec.codegen.index_notation import Scope
from attnspec.codegen.lower import Body
from attnspec.codegen.program import Assign, For, If, Line, Op, Program, Ref, Statement
from attnspec.spec.expression import Name, to_text
from attnspec.spec.model import Path, Spec

_HEAD = ("dtype", "compute")
BLOCK_SIZES = {"T": "rows", "S": "columns"}
_PARTS = {"T": "_block", "S": "_edge", "": ""}
"""What the part of a tensor is called that masks look up for a block of queries, for the keys that are tested, or whole."""


@dataclass(frozen=True)
class Words:
    """What the loops say in each framework in a way of its own: where results are stored, and what gradients are added to."""

    empty: str
    zeros: str
    before_zeros: tuple[str, ...] = ()
    names_block_sizes: bool = False


WORDS = {
    "torch": Words(
        "query.new_empty({})",
        "torch.zeros_like({}, dtype=compute) + zero",
        (
            "# 0, mapped by vmap where any of the four is: what the loop writes into has to be mapped too.",
            "zero = query[:0].sum() + key[:0].sum() + value[:0].sum() + gradient_output[:0].sum()",
        ),
    ),
    "numpy": Words("np.empty(({}), dtype)", "np.zeros_like({}, dtype=compute)", names_block_sizes=True),
}


def forward_program(spec: Spec, words: Words = WORDS["torch"]) -> Program:
    """`(query, key, value, ...) -> output`, block by block, after its head."""
    block = _Block(spec, words)
    stages = [replace(s, target=Ref("output_block", s.target.dims)) if _is_last_product(s) else s for s in block.stages()]
    stored = Line(f"{block.rows('output')} = output_block")
    body = (*block.output(), *block.extremes(), block.loop((*block.slices(), *block.at_edges(stages), stored)))
    return Program(spec.function_name, body, batched=False)


def backward_program(spec: Spec, words: Words = WORDS["torch"]) -> Program:
    """`(query, key, value, gradient_output, ...) -> (d_query, d_key, d_value)`, block by block, after its head."""
    block = _Block(spec, words)
    forward, backward = reverse_stages(spec, tuple(block.stages()), Ref("output", block.dims("output")))
    again = tuple(s for s in forward if isinstance(s, Assign) and not _is_last_product(s))
    loop = block.loop((*block.slices(), block.seed(), *block.at_edges(again), *block.at_edges(backward), *block.stores()))
    return Program(spec.function_name, (*block.gradients(), *block.extremes(), loop), batched=False)


def _kind(statement: Statement) -> str:
    clause = getattr(statement, "clause", "")
    return "mask" if clause.startswith("mask.") else "empty" if clause == "policy.empty_row" else ""


def _tested(masks: list[Assign], looked_up: Iterable[Line]) -> For:
    """Masks where a key is hidden from some query of the block: on the columns of the tested runs."""
    body = tuple(map(_on_edge, masks))
    name = masks[0].target.name
    columns = f"{name}[..., column : column + high - low]"
    bounds = (Ref("low"), Ref("high"))
    positions = Assign(Ref("s", ("S",)), Op("arange", bounds, ("S",), (("like", "query"),)))
    edges: tuple[Statement, ...] = (
        positions,
        *looked_up,
        Line(f"{name}_edge = {columns}"),
        *body,
        Line(f"{columns} = {name}_edge"),
    )
    return For(("column", "low", "high"), "_tested(runs)", edges)


_MAY_BE_EMPTY = Name("some_empty")


def _without_empty_rows(assigns: list[Assign]) -> Iterator[Assign]:
    """What the rule for empty rows leaves where there are none: `safe_logits = logits`."""
    for statement in assigns:
        assert isinstance(statement.value, Op)
        if statement.value.name == "where":
            kept = next(argument for argument in reversed(statement.value.arguments) if isinstance(argument, Ref))
            if kept.name != statement.target.name:
                yield replace(statement, value=kept)


def _on_edge(statement: Assign) -> Assign:
    """The mask of some columns: `logits_edge = torch.where(s <= t[:, None], logits_edge, hidden)`."""
    target = statement.target
    edge = Ref(f"{target.name}_edge", target.dims)
    assert isinstance(statement.value, Op)
    arguments = tuple(edge if argument == target else argument for argument in statement.value.arguments)
    return replace(statement, target=edge, value=replace(statement.value, arguments=arguments))


def _is_last_product(statement: Assign) -> bool:
    return statement.target.name == "output"


class _Block:
    """The pieces of one loop over query blocks."""

    def __init__(self, spec: Spec, words: Words) -> None:
        self.spec = spec
        self.words = words
        self.path: Path = spec.paths[0]
        layouts = Layouts(spec)
        self.scope = layouts.scope
        self.dims = layouts.dims

    def stages(self) -> list[Assign]:
        """The direct form's stages on slices."""
        tensors = {**self.scope.tensors, **{name: Ref(f"{name}_block", self.dims(name)) for name in BLOCKED}}
        tensors |= {name: Ref(f"{name}{_PARTS[along(self.spec, name)]}", self.dims(name)) for name in lookups(self.spec)}
        scope = Scope(tensors, self.scope.canonical, self.scope.indices)
        statements = Body(self.spec, self.path, scope, frozenset()).stages()
        kept = (s for s in statements if isinstance(s, Assign) and s.target.name not in _HEAD)
        return scaled_queries(on_block for statement in kept for on_block in _on_block(statement))

    def at_edges(self, statements: Iterable[Statement]) -> Iterator[Statement]:
        """The statements, masks and the rule for empty rows only where blocks need them."""
        for clause, group in groupby(statements, _kind):
            assigns = [s for s in group if isinstance(s, Assign)]
            if clause == "mask":
                yield _tested(assigns, self.looked_up("S", "low:high"))
            elif clause == "empty":
                yield from _without_empty_rows(assigns)
                yield If(_MAY_BE_EMPTY, tuple(assigns), clause="policy.empty_row")
            else:
                yield from assigns

    def looked_up(self, dim: str, part: str) -> Iterator[Line]:
        """What masks look up for these queries, or these keys: `query_segment_ids_block = query_segment_ids[:, start:stop]`."""
        for name in lookups(self.spec):
            if along(self.spec, name) == dim:
                axes = ", ".join(part if axis == dim else ":" for axis in self.dims(name))
                yield Line(f"{name}{_PARTS[dim]} = {name}[{axes}]")

    def extremes(self) -> Iterator[Statement]:
        """The least and the greatest of what masks look up, of all blocks at once."""
        return map(Line, calls(self.spec))

    def output(self) -> Iterator[Statement]:
        yield Line(f"output = {self.words.empty.format(', '.join(self.dims('output')))}")

    def gradients(self) -> Iterator[Statement]:
        """Where the loop adds up. Under vmap every one of them must be mapped as soon as anything is."""
        yield from map(Line, self.words.before_zeros)
        yield from (Line(f"d_{name} = {self.words.zeros.format(name)}") for name in BLOCKED)

    def seed(self) -> Assign:
        """The gradient that comes in, of the block and in the dtype of sums."""
        dims = self.dims("output")
        return Assign(Ref("d_output", dims), Op("cast", (Ref(self.rows("gradient_output"), dims),), dims, (("to", "compute"),)))

    def loop(self, body: tuple[Statement, ...]) -> For:
        return For(("start",), "range(0, T, BLOCK)", body)

    def slices(self) -> Iterator[Statement]:
        yield Line("stop = min(start + BLOCK, T)")
        yield Line(f"runs = _visible({', '.join(visible_names(self.spec))})")
        yield Line(
            f"{_MAY_BE_EMPTY.name} = all(tested for _, _, tested in runs)  # a run without a test is seen by every query"
        )
        yield Line(f"query_block = {self.rows('query')}")
        yield from self.looked_up("T", "start:stop")
        yield from (Line(f"{name}_block = _taken({name}, {self.axis(name)}, runs)") for name in ("key", "value"))
        if self.words.names_block_sizes:
            yield Line(f"rows, columns = stop - start, key_block.shape[{self.axis('key')}]")

    def rows(self, name: str) -> str:
        """The queries of the block: `query[:, start:stop]`."""
        dims = self.dims("output" if name.endswith("output") else name.removeprefix("d_"))
        return f"{name}[{', '.join([':'] * dims.index('T') + ['start:stop'])}]"

    def axis(self, name: str) -> int:
        return self.dims(name).index(BLOCKED[name])

    def stores(self) -> Iterator[Statement]:
        yield Line(f"{self.rows('d_query')} += d_query_block")
        yield from (Line(f"_add(d_{name}, {self.axis(name)}, runs, d_{name}_block)") for name in ("key", "value"))


def formulas(spec: Spec) -> tuple[str, str]:
    """The keys that some query of a block sees, and those hidden from some, as lists of (low, high)."""
    blocks = blocks_of(spec)
    return ", ".join(map(_seen, blocks.seen)), ", ".join(map(_seen if lookups(spec) else _keys, blocks.hidden))


def visible_names(spec: Spec) -> list[str]:
    """What the formulas read."""
    read = {*re.findall(r"\w+", " ".join(formulas(spec))), "start", "stop", "S"}
    looked_up = (each for name in lookups(spec) for each in extremes(name))
    return [name for name in ("start", "stop", "T", "S", *scalars(spec), *looked_up) if name in read]


def _keys(region: Region) -> str:
    """A region's keys, none where the queries do not fulfil what it needs: `(0, S if start < global_tokens else 0)`."""
    given, high = all_of(region.given), high_text(region)
    return f"({low_text(region)}, {high if given is None else f'{high} if {to_text(given)} else 0'})"


def _seen(region: Region) -> str:
    """The same, block by block where ranges cannot tell which blocks the region meets."""
    meets = all_of(region.meets)
    if region.bounded or meets is None:
        return _keys(region)
    return f"*_seamless((low, high) for low, high in _blocks(S, BLOCK, {_keys(region)}) if {to_text(meets)})"


def _on_block(statement: Assign) -> Iterator[Assign]:
    """Queries run over the block; keys over every tested run, where they are read."""
    if isinstance(statement.value, Op) and statement.value.name == "arange":
        if statement.target.name == "t":
            yield replace(statement, value=replace(statement.value, arguments=(Ref("start"), Ref("stop"))))
    else:
        yield statement
