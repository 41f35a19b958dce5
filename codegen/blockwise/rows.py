"""The form by rows: a loop over blocks of queries that visits only the keys that the masks let a block see.

A block holds all keys that its queries see, so its softmax is that of whole rows. Memory grows with T, not with T times S:
nothing but the inputs is kept, the backward pass computes the weights again. Stages, masks and derivatives are the direct
form's own, lowered on slices; masks are tested only where `blocks.analysis` finds that they may hide something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

from attnspec.codegen.blocks.analysis import all_of, analyse, high_text, low_text
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.blockwise.coverage import BLOCKED, masks, rule_of_masks, scalars
from attnspec.codegen.derivative import reverse_stages
from attnspec.codegen.index_notation import Scope
from attnspec.codegen.lower import Body, canonical_scope
from attnspec.codegen.module import aliases, rules_of, signature_text
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Assign, Dims, For, Line, Op, Program, Ref, Statement
from attnspec.codegen.prologue import prologue
from attnspec.spec.expression import to_text
from attnspec.spec.model import Path, Spec

_HEAD = ("dtype", "compute")


def parts(spec: Spec, target: Target) -> Iterator[str]:
    """The definitions of a blockwise module."""
    yield from _loops(spec, target)
    yield _FUNCTION_CLASS.format(**_names(spec))
    yield _public(spec, target)


def _names(spec: Spec) -> dict[str, str]:
    given = scalars(spec)
    return {
        "scalars": _scalar_parameters(spec),
        "names": "".join(f", {name}" for name in given),
        "nones": ", None" * len(given),
    }


def _scalar_parameters(spec: Spec) -> str:
    types = {"integer": "int", "flag": "bool"}
    return "".join(f", {a.name}: {types.get(a.role, 'float')}" for a in spec.arguments if a.role != "tensor")


def _loops(spec: Spec, target: Target) -> Iterator[str]:
    printer = Printer(target, batched=False, sizes=aliases(spec), rules=rules_of(spec))
    numbers = _scalar_parameters(spec)
    tensors = "query: Tensor, key: Tensor, value: Tensor"

    def body(program: Program, returned: str) -> str:
        return indent(printer.branch((*program.body, Line(f"return {returned}")), ""))

    yield _visible(spec)
    yield f"def _forward({tensors}{numbers}) -> Tensor:\n{body(forward_program(spec), 'output')}"
    yield (
        f"def _backward({tensors}, gradient_output: Tensor{numbers}) -> tuple[Tensor, Tensor, Tensor]:\n"
        f'    """Gradients of query, key and value; the weights are computed again, block by block."""\n'
        f"{body(backward_program(spec), 'd_query.to(dtype), d_key.to(dtype), d_value.to(dtype)')}"
    )


def _visible(spec: Spec) -> str:
    """The function that says which keys a block of queries visits, by the formulas of the masks."""
    seen, hidden = _formulas(spec)
    parameters = ", ".join(f"{name}: int" for name in _visible_names(spec))
    return (
        f"def _visible({parameters}) -> list[_Run]:\n"
        f'    """The keys that queries `start <= t < stop` see, as (low, high, tested): a test tells who sees them."""\n'
        f"    # {rule_of_masks(spec)}\n"
        f"    seen_by_some = [{seen}]\n"
        f"    hidden_from_some = [{hidden}]\n"
        f"    return _runs(S, seen_by_some, hidden_from_some)"
    )


def _formulas(spec: Spec) -> tuple[str, str]:
    """The keys that some query of a block sees, and those hidden from some, as lists of (low, high)."""
    blocks = analyse(masks(spec), vocabulary_of(spec))
    return ", ".join(map(_seen, blocks.seen)), ", ".join(map(_keys, blocks.hidden))


def _visible_names(spec: Spec) -> list[str]:
    """What the formulas read."""
    read = {*re.findall(r"\w+", " ".join(_formulas(spec))), "start", "stop", "S"}
    return [name for name in ("start", "stop", "T", "S", *scalars(spec)) if name in read]


def _public(spec: Spec, target: Target) -> str:
    """The documented function: the direct form's checks, then the loop."""
    # Views tell q, k and v apart where a caller passes one tensor for all: Dynamo takes no tensor twice.
    tensors = ("query", "key.view_as(key)", "value.view_as(value)")
    call = Line(f"return _Blockwise.apply({', '.join((*tensors, *scalars(spec)))})")
    body = Printer(target, batched=False).function_body(Program(spec.function_name, (*prologue(spec), call), batched=False))
    return f"{signature_text(spec, target)}\n{indent(body)}"


_FUNCTION_CLASS = '''class _Blockwise(torch.autograd.Function):
    """The loops as one step that autograd, torch.func and torch.compile know how to differentiate."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor{scalars}) -> Tensor:
        return _forward(query, key, value{names})

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        query, key, value, *ctx.scalars = inputs
        ctx.save_for_backward(query, key, value)

    @staticmethod
    def backward(ctx: Any, gradient_output: Tensor) -> tuple[Tensor | None, ...]:
        return (*_backward(*ctx.saved_tensors, gradient_output, *ctx.scalars){nones})

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        """The mapped axis joins the batch axis."""
        mapped = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(arguments[:3], in_dims[:3], strict=True)
        ]
        output = _Blockwise.apply(*(tensor.flatten(0, 1) for tensor in mapped), *arguments[3:])
        return output.unflatten(0, mapped[0].shape[:2]), 0'''


def forward_program(spec: Spec) -> Program:
    """`(query, key, value, ...) -> output`, block by block."""
    block = _Block(spec)
    stages = [replace(s, target=Ref("output_block", s.target.dims)) if _is_last_product(s) else s for s in block.stages()]
    stored = Line(f"{block.rows('output')} = output_block")
    body = (*block.head(), *block.output(), block.loop((*block.slices(), *at_edges(stages), stored)))
    return Program(spec.function_name, body, batched=False)


def backward_program(spec: Spec) -> Program:
    """`(query, key, value, gradient_output, ...) -> (d_query, d_key, d_value)`, block by block."""
    block = _Block(spec)
    forward, backward = reverse_stages(spec, tuple(block.stages()), Ref("output", block.output_dims))
    again = tuple(s for s in forward if isinstance(s, Assign) and not _is_last_product(s))
    seed = Line(f"d_output = {block.rows('gradient_output')}.to(compute)")
    loop = block.loop((*block.slices(), seed, *at_edges(again), *at_edges(backward), *block.stores()))
    return Program(spec.function_name, (*block.head(), *block.gradients(), loop), batched=False)


def at_edges(statements: Iterable[Statement]) -> Iterator[Statement]:
    """The statements, masks only where a key is hidden from some query of the block: on the columns of the tested runs."""
    for tested, group in groupby(statements, _is_mask):
        if not tested:
            yield from group
            continue
        body = tuple(_on_edge(s) for s in group if isinstance(s, Assign))
        name = body[0].target.name.removesuffix("_edge")
        columns = f"{name}[..., column : column + high - low]"
        positions = Line("s = torch.arange(low, high, device=query.device)")
        yield For(
            ("column", "low", "high"),
            "_tested(runs)",
            (positions, Line(f"{name}_edge = {columns}"), *body, Line(f"{columns} = {name}_edge")),
        )


def _is_mask(statement: Statement) -> bool:
    return isinstance(statement, Assign) and statement.clause.startswith("mask.")


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

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.path: Path = spec.paths[0]
        self.scope = canonical_scope(spec)
        self.output_dims: Dims = Body(spec, self.path, self.scope, frozenset()).physical("output")

    def stages(self) -> list[Assign]:
        """The direct form's stages on slices."""
        tensors = {**self.scope.tensors, **{name: Ref(f"{name}_block", self.dims(name)) for name in BLOCKED}}
        scope = Scope(tensors, self.scope.canonical, self.scope.indices)
        statements = Body(self.spec, self.path, scope, frozenset()).stages()
        kept = (s for s in statements if isinstance(s, Assign) and s.target.name not in _HEAD)
        return [on_block for statement in kept for on_block in _on_block(statement)]

    def dims(self, name: str) -> Dims:
        dims = self.scope.tensors[name].dims
        assert dims is not None
        return dims

    def head(self) -> Iterator[Statement]:
        yield from Body(self.spec, self.path, self.scope, frozenset()).dtypes()
        yield Line(f"T, S = {self.size('T')}, {self.size('S')}")
        yield Line(f"K = {self.size('K')}")
        yield Line(f"G = {self.size('N')} // K")

    def size(self, dim: str) -> str:
        """`key.shape[1]`: where a size is read off."""
        owner = next(name for name in BLOCKED if dim in self.dims(name))
        return f"{owner}.shape[{self.dims(owner).index(dim)}]"

    def output(self) -> Iterator[Statement]:
        yield Line(f"output = query.new_empty({', '.join('T' if d == 'T' else self.size(d) for d in self.output_dims)})")

    def gradients(self) -> Iterator[Statement]:
        """Where the loop adds up. Under vmap every one of them must be mapped as soon as anything is."""
        yield Line("# 0, mapped by vmap where any of the four is: what the loop writes into has to be mapped too.")
        yield Line("zero = query[:0].sum() + key[:0].sum() + value[:0].sum() + gradient_output[:0].sum()")
        yield from (Line(f"d_{name} = torch.zeros_like({name}, dtype=compute) + zero") for name in BLOCKED)

    def loop(self, body: tuple[Statement, ...]) -> For:
        return For(("start",), "range(0, T, BLOCK)", body)

    def slices(self) -> Iterator[Statement]:
        yield Line("stop = min(start + BLOCK, T)")
        yield Line(f"runs = _visible({', '.join(_visible_names(self.spec))})")
        yield Line(f"query_block = {self.rows('query')}")
        yield from (Line(f"{name}_block = _taken({name}, {self.axis(name)}, runs)") for name in ("key", "value"))

    def rows(self, name: str) -> str:
        """The queries of the block: `query[:, start:stop]`."""
        dims = self.output_dims if name.endswith("output") else self.dims(name.removeprefix("d_"))
        return f"{name}[{', '.join([':'] * dims.index('T') + ['start:stop'])}]"

    def axis(self, name: str) -> int:
        return self.dims(name).index(BLOCKED[name])

    def stores(self) -> Iterator[Statement]:
        yield Line(f"{self.rows('d_query')} += d_query_block")
        yield from (Line(f"_add(d_{name}, {self.axis(name)}, runs, d_{name}_block)") for name in ("key", "value"))


def _keys(region: Region) -> str:
    """A region's keys, none where the queries do not fulfil what it needs: `(0, S if start < global_tokens else 0)`."""
    given, high = all_of(region.given), high_text(region)
    return f"({low_text(region)}, {high if given is None else f'{high} if {to_text(given)} else 0'})"


def _seen(region: Region) -> str:
    """The same, block by block where ranges cannot tell which blocks the region meets."""
    meets = all_of(region.meets)
    if region.bounded or meets is None:
        return _keys(region)
    return f"*((low, high) for low, high in _blocks(S, BLOCK, {_keys(region)}) if {to_text(meets)})"


def _on_block(statement: Assign) -> Iterator[Assign]:
    """Queries run over the block; keys over every tested run, where they are read."""
    if isinstance(statement.value, Op) and statement.value.name == "arange":
        if statement.target.name == "t":
            yield replace(statement, value=replace(statement.value, arguments=(Ref("start"), Ref("stop"))))
    else:
        yield statement
