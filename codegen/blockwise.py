"""The blockwise form: a loop over blocks of queries that visits only the keys that the masks let a block see.

Memory grows with T, not with T times S: the backward pass recomputes the weights from the log-sum-exp. Stages, masks and
derivatives are the direct form's own, lowered on slices.
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
    """Whether every stage is unconditional and needs no tensors beside query, key and value."""
    if spec.form != "function" or len(spec.paths) != 1 or len(spec.tensor_arguments) != 3 or len(spec.outputs) != 1:
        return False
    stages = spec.paths[0].stages
    known = all(stage.clause in _KINDS or stage.kind == "mask" for stage in stages)
    return known and all(stage.when is None for stage in stages) and any(stage.kind == "mask" for stage in stages)


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
        yield (
            "blockwise",
            assemble(
                spec,
                target,
                title,
                parts,
                ("from typing import Any",),
            ),
        )


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
    forward = indent(printer.branch((*forward_program(spec).body, Line("return output, logsumexp")), ""))
    backward = indent(
        printer.branch((*backward_program(spec).body, Line("return d_query, d_key.to(dtype), d_value.to(dtype)")), "")
    )
    tensors = "query: Tensor, key: Tensor, value: Tensor"
    yield (
        f"def _forward({tensors}{scalars}) -> tuple[Tensor, Tensor]:\n"
        f'    """The output and the log-sum-exp of every row (0 for a row that sees nothing)."""\n{forward}'
    )
    yield (
        f"def _backward({tensors}, logsumexp: Tensor, gradient_output: Tensor{scalars}) -> tuple[Tensor, Tensor, Tensor]:\n"
        f'    """Gradients of query, key and value; the weights are recomputed block by block."""\n{backward}'
    )


def _public(spec: Spec, target: Target) -> str:
    """The documented function: the direct form's checks, then the loop."""
    # Views tell q, k and v apart where a caller passes one tensor for all: Dynamo takes no tensor twice.
    tensors = ("query", "key.view_as(key)", "value.view_as(value)")
    call = Line(f"return _Blockwise.apply({', '.join((*tensors, *_scalars(spec)))})[0]")
    body = Printer(target, batched=False).function_body(Program(spec.function_name, (*prologue(spec), call), batched=False))
    return f"{signature_text(spec, target)}\n{indent(body)}"


_FUNCTION_CLASS = '''class _Blockwise(torch.autograd.Function):
    """The loops as one step that autograd, torch.func and torch.compile know how to differentiate."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor{scalars}) -> tuple[Tensor, Tensor]:
        return _forward(query, key, value{names})

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        query, key, value, *ctx.scalars = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(query, key, value, output[1])

    @staticmethod
    def backward(ctx: Any, gradient_output: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, logsumexp = ctx.saved_tensors
        if torch.is_grad_enabled():  # A higher order: the weights depend on query and key through the log-sum-exp too.
            logsumexp = _forward(query, key, value, *ctx.scalars)[1]
        return (*_backward(query, key, value, logsumexp, gradient_output, *ctx.scalars){nones})

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        """The mapped axis joins the batch axis."""
        mapped = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(arguments[:3], in_dims[:3], strict=True)
        ]
        outputs = _Blockwise.apply(*(tensor.flatten(0, 1) for tensor in mapped), *arguments[3:])
        return tuple(output.unflatten(0, mapped[0].shape[:2]) for output in outputs), (0, 0)'''


def forward_program(spec: Spec) -> Program:
    """`(query, key, value, ...) -> (output, logsumexp)`, block by block."""
    block = _Block(spec)
    stages = [_from_logsumexp(s) for s in block.stages() if s.target.name not in _HEAD]
    before, after = _around(stages)
    output = Line(f"{block.slice_text('output', 'T', 'start', 'stop')} = output_block")
    lse = Assign(Ref("block_logsumexp", ("B", "N", "T")), Op("logsumexp", (Ref("logits", block.logit_dims),), ("B", "N", "T")))
    finite = Assign(lse.target, Op("finite_or_zero", (lse.target,), lse.target.dims), "policy.empty_row")
    stored = Assign(Ref("logsumexp[..., start:stop]"), lse.target)
    after = [replace(s, target=Ref("output_block", s.target.dims)) if _is_last_product(s) else s for s in after]
    body = (*block.slices(), *before, lse, finite, stored, *after, output)
    return Program(
        spec.function_name, (*block.head(), *block.allocate(("output", "logsumexp")), block.loop(body)), batched=False
    )


def backward_program(spec: Spec) -> Program:
    """`(query, key, value, logsumexp, d_output, ...) -> (d_query, d_key, d_value)`, block by block."""
    block = _Block(spec)
    stages = tuple(s for s in block.stages() if s.target.name not in _HEAD)
    forward, backward = reverse_stages(spec, stages, Ref("output", block.output_dims))
    recomputed = tuple(_from_logsumexp(s) for s in forward if isinstance(s, Assign) and not _is_last_product(s))
    seed = Line(f"d_output = {block.slice_text('gradient_output', 'T', 'start', 'stop')}.to(compute)")
    lse = Line("block_logsumexp = logsumexp[..., start:stop]")
    body = (*block.slices(), lse, seed, *recomputed, *backward, *block.stores())
    return Program(
        spec.function_name, (*block.head(), *block.allocate(("d_query", "d_key", "d_value")), block.loop(body)), False
    )


def _around(stages: list[Assign]) -> tuple[list[Assign], list[Assign]]:
    """The stages up to the final logits, and those from the weights on."""
    at = next(i for i, s in enumerate(stages) if s.target.name == "weights")
    return stages[:at], stages[at:]


def _from_logsumexp(statement: Assign) -> Assign:
    """Weights from logits and their log-sum-exp, in place of a softmax."""
    if isinstance(statement.value, Op) and statement.value.name == "softmax":
        (logits,) = statement.value.arguments
        return replace(statement, value=Op("exp_minus", (logits, Ref("block_logsumexp")), statement.value.dims))
    return statement


def _is_last_product(statement: Assign) -> bool:
    return statement.target.name == "output"


class _Block:
    """The pieces of one loop over query blocks."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.path: Path = spec.paths[0]
        self.scope = canonical_scope(spec)
        self.logit_dims: Dims = spec.tensors["logit"]
        self.output_dims: Dims = Body(spec, self.path, self.scope, frozenset()).physical("output")

    def stages(self) -> list[Assign]:
        """The direct form's stages on slices; a -inf fill needs no rule for empty rows here (their weights are exp(-inf))."""
        tensors = {**self.scope.tensors, **{name: Ref(f"{name}_block", self.dims(name)) for name in _SLICED}}
        scope = Scope(tensors, self.scope.canonical, self.scope.indices)
        path = replace(
            self.path, policies={**self.path.policies, "empty_row": replace(self.path.policies["empty_row"], value="nan")}
        )
        statements = Body(self.spec, path, scope, frozenset()).stages()
        return [_on_block(s) for s in statements if isinstance(s, Assign)]

    def dims(self, name: str) -> Dims:
        dims = self.scope.tensors[name].dims
        assert dims is not None
        return dims

    def head(self) -> Iterator[Statement]:
        yield Line("dtype = query.dtype")
        yield Line("compute = torch.promote_types(dtype, torch.float32)")
        yield Line(f"T, S = query.shape[{self.dims('query').index('T')}], key.shape[{self.dims('key').index('S')}]")
        yield Line(f"K = key.shape[{self.dims('key').index('K')}]")
        yield Line(f"G = query.shape[{self.dims('query').index('N')}] // K")

    def allocate(self, names: tuple[str, ...]) -> Iterator[Statement]:
        shapes = {
            "output": "torch.empty(*query.shape[:-1], value.shape[-1], dtype=dtype, device=query.device)",
            "logsumexp": f"query.new_empty(query.shape[0], query.shape[{self.dims('query').index('N')}], T, dtype=compute)",
            "d_query": "torch.empty_like(query)",
            "d_key": "torch.zeros_like(key, dtype=compute)",
            "d_value": "torch.zeros_like(value, dtype=compute)",
        }
        yield from (Line(f"{name} = {shapes[name]}") for name in names)

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
            sign = "=" if name == "query" else "+="
            yield Line(f"{self.slice_text('d_' + name, dim, first, last)} {sign} d_{name}_block")


def _on_block(statement: Assign) -> Assign:
    """Index grids run over the block."""
    if isinstance(statement.value, Op) and statement.value.name == "arange":
        first, last = ("start", "stop") if statement.target.name == "t" else ("low", "high")
        return replace(statement, value=Op("arange", (Ref(first), Ref(last)), statement.value.dims))
    return statement
