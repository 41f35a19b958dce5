"""The blockwise form: a loop over blocks of queries that visits only the keys that the masks let a block see.

A block holds all keys that its queries see, so its softmax is that of whole rows. Memory grows with T, not with T times S:
nothing but the inputs is kept, the backward pass computes the weights again. Stages, masks and derivatives are the direct
form's own, lowered on slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.block_bounds import KeyRange, key_range
from attnspec.codegen.derivative import reverse_stages
from attnspec.codegen.index_notation import Scope
from attnspec.codegen.lower import Body, canonical_scope
from attnspec.codegen.module import aliases, assemble, rules_of, signature_text
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Assign, Dims, For, Line, Op, Program, Ref, Statement
from attnspec.codegen.prologue import prologue
from attnspec.spec.model import Path, Spec, Stage

_KINDS = {"score.dot", "modifier.scale", "modifier.softcap", "softmax.plain", "combine.weighted"}
BLOCK_LENGTH = 128
_HEAD = ("dtype", "compute")
_SLICED = {"query": ("T", "start", "stop"), "key": ("S", "low", "high"), "value": ("S", "low", "high")}


def supports_blockwise(spec: Spec) -> bool:
    """Whether every stage is unconditional and needs no tensors beside query, key and value, and hidden keys leave no trace."""
    if spec.form != "function" or len(spec.paths) != 1 or len(spec.outputs) != 1 or not _plain_inputs(spec):
        return False
    stages, policies = spec.paths[0].stages, spec.paths[0].policies
    known = all(stage.clause in _KINDS or stage.kind == "mask" for stage in stages)
    masked = any(stage.kind == "mask" for stage in stages)
    traceless = policies["mask.fill"].detail == "-inf" and policies["empty_row"].value == "zero"
    return known and masked and traceless and all(stage.when is None for stage in stages)


def _plain_inputs(spec: Spec) -> bool:
    """Query, key and value under these names, each of one rank."""
    given = spec.tensor_arguments
    plain = all(a.feeds in ("", a.name) and len(a.layouts) == 1 and not a.layouts[0].batched for a in given)
    return plain and {a.name for a in given} == _SLICED.keys()


def blockwise_modules(spec: Spec, target: Target) -> Iterator[tuple[str, str]]:
    """(suffix, text) of the blockwise modules of a spec: for torch, where `supports_blockwise`."""
    if target.name == "torch" and supports_blockwise(spec):
        parts = [
            f"BLOCK = {BLOCK_LENGTH}",
            *_loops(spec, target),
            _FUNCTION_CLASS.format(**_names(spec)),
            _public(spec, target),
        ]
        title = f"`{spec.name}` for torch, blockwise: memory grows with T, not with T times S.\n\n{spec.summary}\n"
        yield "blockwise", assemble(spec, target, title, parts, ("from typing import Any",))


def _scalars(spec: Spec) -> list[str]:
    return [argument.name for argument in spec.arguments if argument.role != "tensor"]


def _names(spec: Spec) -> dict[str, str]:
    scalars = _scalars(spec)
    return {
        "scalars": _scalar_parameters(spec),
        "names": "".join(f", {name}" for name in scalars),
        "nones": ", None" * len(scalars),
    }


def _scalar_parameters(spec: Spec) -> str:
    types = {"integer": "int", "flag": "bool", "choice": "str"}
    return "".join(f", {a.name}: {types.get(a.role, 'float')}" for a in spec.arguments if a.role != "tensor")


def _loops(spec: Spec, target: Target) -> Iterator[str]:
    printer = Printer(target, batched=False, sizes=aliases(spec), rules=rules_of(spec))
    scalars = _scalar_parameters(spec)
    tensors = "query: Tensor, key: Tensor, value: Tensor"

    def body(program: Program, returned: str) -> str:
        return indent(printer.branch((*program.body, Line(f"return {returned}")), ""))

    yield f"def _forward({tensors}{scalars}) -> Tensor:\n{body(forward_program(spec), 'output')}"
    yield (
        f"def _backward({tensors}, gradient_output: Tensor{scalars}) -> tuple[Tensor, Tensor, Tensor]:\n"
        f'    """Gradients of query, key and value; the weights are computed again, block by block."""\n'
        f"{body(backward_program(spec), 'd_query.to(dtype), d_key.to(dtype), d_value.to(dtype)')}"
    )


def _public(spec: Spec, target: Target) -> str:
    """The documented function: the direct form's checks, then the loop."""
    # Views tell q, k and v apart where a caller passes one tensor for all: Dynamo takes no tensor twice.
    tensors = ("query", "key.view_as(key)", "value.view_as(value)")
    call = Line(f"return _Blockwise.apply({', '.join((*tensors, *_scalars(spec)))})")
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
    stored = Line(f"{block.slice_text('output', 'T', 'start', 'stop')} = output_block")
    body = (*block.head(), *block.output(), block.loop((*block.slices(), *stages, stored)))
    return Program(spec.function_name, body, batched=False)


def backward_program(spec: Spec) -> Program:
    """`(query, key, value, gradient_output, ...) -> (d_query, d_key, d_value)`, block by block."""
    block = _Block(spec)
    forward, backward = reverse_stages(spec, tuple(block.stages()), Ref("output", block.output_dims))
    again = tuple(s for s in forward if isinstance(s, Assign) and not _is_last_product(s))
    seed = Line(f"d_output = {block.slice_text('gradient_output', 'T', 'start', 'stop')}.to(compute)")
    loop = block.loop((*block.slices(), seed, *again, *backward, *block.stores()))
    return Program(spec.function_name, (*block.head(), *block.gradients(), loop), batched=False)


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
        tensors = {**self.scope.tensors, **{name: Ref(f"{name}_block", self.dims(name)) for name in _SLICED}}
        scope = Scope(tensors, self.scope.canonical, self.scope.indices)
        statements = Body(self.spec, self.path, scope, frozenset()).stages()
        return [_on_block(s) for s in statements if isinstance(s, Assign) and s.target.name not in _HEAD]

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
        owner = next(name for name in _SLICED if dim in self.dims(name))
        return f"{owner}.shape[{self.dims(owner).index(dim)}]"

    def output(self) -> Iterator[Statement]:
        yield Line(f"output = query.new_empty({', '.join('T' if d == 'T' else self.size(d) for d in self.output_dims)})")

    def gradients(self) -> Iterator[Statement]:
        """Where the loop adds up. Under vmap every one of them must be mapped as soon as anything is."""
        yield Line("# 0, mapped by vmap where any of the four is: what the loop writes into has to be mapped too.")
        yield Line("zero = query[:0].sum() + key[:0].sum() + value[:0].sum() + gradient_output[:0].sum()")
        yield from (Line(f"d_{name} = torch.zeros_like({name}, dtype=compute) + zero") for name in _SLICED)

    def masks(self) -> list[Stage]:
        return [stage for stage in self.path.stages if stage.kind == "mask"]

    def range(self) -> KeyRange:
        return key_range(stage.expression for stage in self.masks())

    def loop(self, body: tuple[Statement, ...]) -> For:
        return For(("start",), "range(0, T, BLOCK)", body)

    def slices(self) -> Iterator[Statement]:
        found = self.range()
        owners = ", ".join(stage.clause for stage in self.masks())
        yield Line("stop = min(start + BLOCK, T)")
        yield Line(f"# The keys that {owners} may show to these queries.")
        yield Line(f"low = min(S, {found.low_text()})" if found.lows else "low = 0")
        yield Line(f"high = max(low, {found.high_text('S')})")
        for name, (dim, first, last) in _SLICED.items():
            yield Line(f"{name}_block = {self.slice_text(name, dim, first, last)}")

    def slice_text(self, name: str, dim: str, first: str, last: str) -> str:
        dims = self.output_dims if name.endswith("output") else self.dims(name.removeprefix("d_"))
        return f"{name}[{', '.join([':'] * dims.index(dim) + [f'{first}:{last}'])}]"

    def stores(self) -> Iterator[Statement]:
        for name, (dim, first, last) in _SLICED.items():
            yield Line(f"{self.slice_text('d_' + name, dim, first, last)} += d_{name}_block")


def _on_block(statement: Assign) -> Assign:
    """Index grids run over the block."""
    if isinstance(statement.value, Op) and statement.value.name == "arange":
        first, last = ("start", "stop") if statement.target.name == "t" else ("low", "high")
        return replace(statement, value=replace(statement.value, arguments=(Ref(first), Ref(last))))
    return statement
