"""The documented function around the kernels: the framework's checks of arguments, and tensors as the kernels have them."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.kernels.coverage import LAYOUTS
from attnspec.codegen.kernels.holes import SEED, compiled, parameters_of
from attnspec.codegen.kernels.language import Language, is_table
from attnspec.codegen.kernels.operands import ORIGIN, dims_of, is_looked_up
from attnspec.codegen.kernels.shards import is_sharded
from attnspec.codegen.module import signature_text
from attnspec.codegen.printer import Printer, indent
from attnspec.codegen.program import Dims, If, Line, Program, Ref, Return, Statement
from attnspec.codegen.prologue import canonical_dims, lacking_axis, lift_names, prologue
from attnspec.codegen.unit_dims import without_unit_dims
from attnspec.spec.expression import IsNone, Unary
from attnspec.spec.model import Argument, Axis, Layout, Output, Spec

_KERNELS = {name: tuple(dims) for name, dims in (*LAYOUTS.items(), ("output", "BTNV"))}
"""The layouts of the kernels."""
_ORDER = "layout"
"""The clause of what brings tensors into them, and back."""


def public_function(spec: Spec, language: Language) -> str:
    """The documented function: the checks of any function of that framework, then the kernels."""
    around = language.around
    kernels = compiled(spec, language)
    statements = (*prologue(without_unit_dims(spec)), *_counted(kernels, language), *_called(kernels, language))
    body = Printer(around, batched=False).function_body(Program(spec.function_name, statements, batched=False))
    head = signature_text(spec, around)
    return "\n\n\n".join(_with_others(spec, language, head, body)) if _has_others(spec, language) else f"{head}\n{indent(body)}"


def _has_others(spec: Spec, language: Language) -> bool:
    """Whether there are functions that differ from the documented one in what attends, or in what it draws from."""
    return is_sharded(spec, language) or _is_seeded(spec, language)


def _is_seeded(spec: Spec, language: Language) -> bool:
    return language.seeds and any(stage.kind == "dropout" for stage in spec.paths[0].stages)


def _with_others(spec: Spec, language: Language, head: str, body: str) -> Iterator[str]:
    """The documented function, what makes the others, and what they have in common."""
    name, is_seeded = spec.function_name, _is_seeded(spec, language)
    passed = ", ".join(f"{each.name}={each.name}" if each.kind == "keyword-only" else each.name for each in spec.arguments)
    own, parameter, default = (", None", f"{SEED}: Any, ", f", {SEED}: Any = None") if is_seeded else ("", "", "")
    given = f", {SEED}" * is_seeded
    yield f"{head}\n    return _{name}({language.entry_point}{own}, {passed})"
    if is_seeded:
        yield f'''def {name}_seeded(seed: Any) -> Callable[..., Any]:
    """`{name}` with dropout, drawn from an integer, traced or not: another one in every step.

    Where batch rows or heads are shared out over devices, each device needs a seed of its own.
    """
    return functools.partial(_{name}, {language.entry_point}, seed)'''
    if is_sharded(spec, language):
        yield f'''def {name}_ring(axis: str{default}) -> Callable[..., Any]:
    """`{name}` of a sequence that lies in shards, all of one length, along an axis of `jax.shard_map`.

    Every device of it calls what this returns, with its own shards of query, key and value, and of what else has an axis of
    queries or keys. Keys and values go round the devices. `check_vma=False`: kernels do not say how results vary over devices.
    """
    return functools.partial(_{name}, functools.partial(_ring_attention, axis=axis){given})'''
    signature, _, returned = head[head.index("(") + 1 : head.index('    """')].rpartition(") -> ")
    yield f'''def _{name}(attend: Callable[..., Any], {parameter}{signature}) -> {returned.rstrip()}
    """The same, by what attends{f" and `{SEED}`" * is_seeded}."""
{indent(body)}'''


def _counted(spec: Spec, language: Language) -> Iterator[Line]:
    """Numbers that the kernels can count with."""
    for each in parameters_of(spec):
        if each.argument.role in language.checked:
            line = f'{each.name} = {language.checked[each.argument.role]}("{each.argument.name}", {each.name})'
            yield Line(
                f"if {each.name} is not None:\n    {line}" if each.argument.optional and each.argument.unset is None else line
            )


def _seeded(spec: Spec, language: Language) -> Iterator[Line]:
    """What decides what dropout draws, forward and backward, on the device: no call waits for it."""
    printer = Printer(language.around, batched=False)
    for stage in (stage for stage in spec.paths[0].stages if stage.kind == "dropout"):
        guard = "" if stage.when is None else f" if {printer.guard(stage.when)[0]} else None"
        yield Line(f"{SEED} = {language.seed}{guard}", stage.clause)


def _called(spec: Spec, language: Language) -> Iterator[Statement]:
    """The tensors as the kernels have them, the kernels, and the outputs as the spec has them."""
    for name in ("query", "key", "value"):
        yield from _canonical(spec.argument(name), language)
    for argument in (each.argument for each in parameters_of(spec) if each.is_tensor):
        brought = tuple(_table(argument, language) if is_table(argument) else _broadcast(spec, argument))
        given = Unary("not", IsNone(argument.name))
        yield from (If(given, brought, (), _ORDER),) if argument.optional and brought else brought
    yield from _seeded(spec, language)
    names = ", ".join(["query", "key", "value", *(each.name for each in language.ordered(parameters_of(spec)))])
    output, *others = spec.outputs
    if is_sharded(spec, language):
        yield Line(f"{ORIGIN} = None  # a shard knows its own")
    attend = "attend" if _has_others(spec, language) else language.entry_point
    call, back = f"{attend}({names})", tuple(_documented(output, language))
    if not (others or back or lift_names(spec)):
        yield Line(f"return {call}[0]")
        return
    yield Line(f"output, *rows = {call}" if others else f"output = {call}[0]")
    yield from back
    lifted = tuple(lacking_axis(each.layouts) for each in spec.outputs) if lift_names(spec) else ()
    for other in others:
        assert other.when is not None
        body = (_residual(other, language), Return((Ref("output"), Ref(other.name)), lifted))
        yield If(other.when, body, (), f"returns.{other.name}")
    yield Return((Ref("output"),), lifted[:1])


def _canonical(argument: Argument, language: Language) -> Iterator[Line]:
    """A tensor in the kernels' layout: its leading axes as one, its axes in their order."""
    layout, wanted = argument.layouts[0], _KERNELS[argument.name]
    if _lacks_batch(layout):
        yield Line(f"{argument.name} = {argument.name}[None]", _ORDER)
        layout = _with_batch(layout)
    if layout.batched:
        yield Line(f"{argument.name} = _with_one_batch_axis({argument.name}, _leading(sizes))", _ORDER)
    yield from _permuted(argument.name, canonical_dims(layout, wanted), wanted, language)


def _documented(output: Output, language: Language) -> Iterator[Line]:
    """The output in its documented layout."""
    layout, have = output.layouts[0], _KERNELS["output"]
    if _lacks_batch(layout):
        yield Line("output = output[0]", _ORDER)
        have = have[1:]
    yield from _permuted("output", have, canonical_dims(layout, have), language)
    if layout.batched:
        yield Line("output = output.reshape(*_leading(sizes), *output.shape[1:])", _ORDER)


def _permuted(name: str, have: Dims, wanted: Dims, language: Language) -> Iterator[Line]:
    """A tensor with its axes in another order."""
    if have != wanted:
        yield Line(f"{name} = {name}.{language.permute}({', '.join(str(have.index(dim)) for dim in wanted)})", _ORDER)


def _lacks_batch(layout: Layout) -> bool:
    """Whether a tensor knows no batch rows: it is one."""
    return not layout.batched and "B" not in layout.dims


def _with_batch(layout: Layout) -> Layout:
    return Layout((Axis(("B",)), *layout.axes))


def _table(argument: Argument, language: Language) -> Iterator[Line]:
    """What every batch row reads at computed indices, as a batch of one; numbers that kernels count with."""
    cast = f".{language.to_dtype}({language.int32})" if argument.dtype == "integer" else ""
    yield Line(f"{argument.name} = {argument.name}[None]{cast}", _ORDER)


def _broadcast(spec: Spec, argument: Argument) -> Iterator[Line]:
    """What pairs of query and key read, as (B|1, N|1, T|1, S|1)."""
    if is_looked_up(argument) or argument.layouts == (Layout(tuple(Axis((dim,)) for dim in "BNTS")),):
        return
    if dims_of(spec, argument) == ("N",):
        yield Line(f"{argument.name} = {argument.name}[None, :, None, None]", _ORDER)
    else:
        leading = "_leading(sizes)" if argument.layouts[0].batched else "(B,)"
        yield Line(f"{argument.name} = _with_four_axes({argument.name}, {leading})", _ORDER)


def _residual(output: Output, language: Language) -> Line:
    """The log-sum-exp of the logits: the kernels have it over log(2), and inf in rows that see nothing."""
    order = ("B", "N", "T")
    axes = ", ".join(str(order.index(dim)) for dim in canonical_dims(output.layouts[0], order))
    found = f"_log_sum_exp(*rows).{language.permute}({axes}).{language.to_dtype}(query.dtype)"
    return Line(f"{output.name} = {found}", f"returns.{output.name}")
