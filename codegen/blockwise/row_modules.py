"""The modules of the form by rows: torch's loops as a step of autograd, NumPy's beside an explicit `vjp`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.blockwise.choice import chosen, direct_function, direct_vjp
from attnspec.codegen.blockwise.coverage import BLOCKED, lookups, rule_of_masks, scalars
from attnspec.codegen.blockwise.layouts import Layouts
from attnspec.codegen.blockwise.lookups import extremes
from attnspec.codegen.blockwise.rows import BLOCK_SIZES, WORDS, backward_program, formulas, forward_program, visible_names
from attnspec.codegen.module import aliases, rules_of, signature_text, vjp_text
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.program import Line, Op, Program
from attnspec.codegen.prologue import prologue
from attnspec.spec.model import Spec


def torch_parts(spec: Spec, target: Target, auto: bool) -> Iterator[str]:
    """The definitions of torch's module."""
    # Views tell q, k and v apart where a caller passes one tensor for all: Dynamo takes no tensor twice.
    tensors = ("query", "key.view_as(key)", "value.view_as(value)")
    yield from _loops(spec, target)
    yield _FUNCTION_CLASS.format(**_names(spec))
    if auto:
        yield direct_function(spec, target)
    yield _public(spec, target, auto, f"_Blockwise.apply({', '.join((*tensors, *lookups(spec), *scalars(spec)))})")


def numpy_parts(spec: Spec, target: Target, auto: bool) -> Iterator[str]:
    """The definitions of NumPy's module."""
    yield from _loops(spec, replace(target, ops={**target.ops, "einsum": _matrix_product}))
    if auto:
        yield direct_function(spec, target)
        yield direct_vjp(spec, target)
    yield _public(spec, target, auto, f"_forward({', '.join((*BLOCKED, *lookups(spec), *scalars(spec)))})")
    yield _vjp(spec, target, auto)


def _matrix_product(printer: Printer, op: Op) -> str:
    """A product of blocks, which are large enough to be worth a plan: it becomes one of matrices."""
    a, b = (printer.node(argument)[0] for argument in op.arguments)
    return f"np.einsum({printer.einsum(op)}, {a}, {b}, dtype=compute, optimize=True)"


def _names(spec: Spec) -> dict[str, str | int]:
    tensors, given = lookups(spec), scalars(spec)
    return {
        "parameters": "".join(f", {name}: Tensor" for name in tensors) + _scalar_parameters(spec),
        "tensors": "".join(f", {name}" for name in tensors),
        "names": "".join(f", {name}" for name in (*tensors, *given)),
        "nones": ", None" * len((*tensors, *given)),
        "count": 3 + len(tensors),
    }


def _scalar_parameters(spec: Spec) -> str:
    types = {"integer": "int", "flag": "bool"}
    return "".join(f", {a.name}: {types.get(a.role, 'float')}" for a in spec.arguments if a.role != "tensor")


def _loops(spec: Spec, target: Target) -> Iterator[str]:
    words, array = WORDS[target.name], target.array_type
    tensors = ", ".join(f"{name}: {array}" for name in (*BLOCKED, *lookups(spec)))
    yield _visible(spec)
    yield (
        f"def _forward({tensors}{_scalar_parameters(spec)}) -> {array}:\n"
        f"{_body(spec, target, forward_program(spec, words), 'output')}"
    )
    yield (
        f"def _backward({tensors}, gradient_output: {array}{_scalar_parameters(spec)}) -> tuple[{', '.join([array] * 3)}]:\n"
        f'    """Gradients of query, key and value; the weights are computed again, block by block."""\n'
        f"{_body(spec, target, backward_program(spec, words), ', '.join(_rounded(spec, target)))}"
    )


def _rounded(spec: Spec, target: Target) -> Iterator[str]:
    """The gradients, as they are returned."""
    cast = {"torch": "to", "numpy": "astype"}[target.name]
    return (f"d_{name}.{cast}(dtype)" for name in BLOCKED)


def _body(spec: Spec, target: Target, program: Program, returned: str) -> str:
    """The body of a loop's function, with the sizes that it reads."""
    printer = Printer(target, batched=False, sizes={**aliases(spec), **BLOCK_SIZES}, rules=rules_of(spec))
    text = printer.branch((*program.body, Line(f"return {returned}")), "")
    head = printer.block(tuple(Layouts(spec).head(text)))
    return indent(f"{head}\n{text}")


def _visible(spec: Spec) -> str:
    """The function that says which keys a block of queries visits, by the formulas of the masks."""
    seen, hidden = formulas(spec)
    lists = {each for name in lookups(spec) for each in extremes(name)}
    parameters = ", ".join(f"{name}: {'list[int]' if name in lists else 'int'}" for name in visible_names(spec))
    return (
        f"def _visible({parameters}) -> list[_Run]:\n"
        f'    """The keys that queries `start <= t < stop` see, as (low, high, tested): a test tells who sees them."""\n'
        f"    # {rule_of_masks(spec)}\n"
        f"    seen_by_some = [{seen}]\n"
        f"    hidden_from_some = [{hidden}]\n"
        f"    return _runs(S, seen_by_some, hidden_from_some)"
    )


def _public(spec: Spec, target: Target, auto: bool, call: str) -> str:
    """The documented function: the direct form's checks, then the loop."""
    program = Program(spec.function_name, (*prologue(spec), *chosen(spec, target, auto, call)), batched=False)
    return f"{signature_text(spec, target)}\n{indent(Printer(target, batched=False).function_body(program))}"


def _vjp(spec: Spec, target: Target, auto: bool) -> str:
    """The function that returns the gradients of the documented one."""
    gradients = ", ".join(f"d_{name}" for name in BLOCKED)
    given = ", ".join((*BLOCKED, *lookups(spec), "np.asarray(d_output)", *scalars(spec)))
    named = ", ".join(f'"{name}": d_{name}' for name in BLOCKED)
    *direct, _ = chosen(spec, target, auto, "", "_direct_vjp", "np.asarray(d_output)")
    lines = (*direct, Line(f"{gradients} = _backward({given})"), Line(f"return {{{named}}}"))
    return vjp_text(spec, Program(f"{spec.function_name}_vjp", (*prologue(spec), *lines), batched=False), target)


_FUNCTION_CLASS = '''class _Blockwise(torch.autograd.Function):
    """The loops as one step that autograd, torch.func and torch.compile know how to differentiate."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor{parameters}) -> Tensor:
        return _forward(query, key, value{names})

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        query, key, value{tensors}, *ctx.scalars = inputs
        ctx.save_for_backward(query, key, value{tensors})

    @staticmethod
    def backward(ctx: Any, gradient_output: Tensor) -> tuple[Tensor | None, ...]:
        return (*_backward(*ctx.saved_tensors, gradient_output, *ctx.scalars){nones})

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        """The mapped axis joins the batch axis."""
        mapped = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for tensor, dim in zip(arguments[:{count}], in_dims[:{count}], strict=True)
        ]
        output = _Blockwise.apply(*(tensor.flatten(0, 1) for tensor in mapped), *arguments[{count}:])
        return output.unflatten(0, mapped[0].shape[:2]), 0'''
