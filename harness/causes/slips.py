"""Further causes by name, what kernels and ports get wrong that is no choice of a spec: axes read in another order, the formula
of a cap, the ends of blocks.

Like those of `perturbations.py` each is a `Cause` and a spec that has it. Nobody plants them by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from attnspec.harness.causes.perturbations import Cause, Perturbation, read_at
from attnspec.harness.causes.rewriting import before_softmax, rewritten, with_path, with_stage
from attnspec.harness.configuration import Configuration
from attnspec.harness.facts import facts
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Sum, fold, names, parse, substitute, walk
from attnspec.spec.model import Argument, Axis, Layout, Path, Spec, Stage
from attnspec.spec.resolve import Attention, resolve

BLOCKS = (16, 32, 64, 128)
CAPS = {
    "only divides: `tanh(logit / cap)`": "tanh(logit / cap)",
    "only multiplies: `cap * tanh(logit)`": "cap * tanh(logit)",
    "cuts what is beyond the cap": "(abs(logit + cap) - abs(logit - cap)) / 2",
    "is applied twice": "cap * tanh(tanh(logit / cap))",
}
WRAPPED = {"keys": ("key",), "values": ("value",), "keys and values": ("key", "value")}
OTHER_ROWS = {"before": "(b + B - 1) % B", "after": "(b + 1) % B"}


def slips(spec: Spec, configuration: Configuration) -> Iterator[Perturbation]:
    """Every slip that applies to a call."""
    attention, sizes = resolve(spec, facts(spec, configuration)), dict(configuration.sizes)
    for stage in attention.stages:
        if stage.kind == "modifier" and stage.expression == parse("cap * tanh(logit / cap)"):
            for text, rule in CAPS.items():
                yield Cause(stage.clause, f"`{stage.clause}` {text}"), with_stage(spec, attention.path, stage, parse(rule))
        if stage.kind == "modifier" and "scale" in names(stage.expression) and "H" in attention.scope:
            for scale in ("1 / H", *(f"min(H, {block}) ** -0.5" for block in BLOCKS if sizes.get("H", 1) > block)):
                changed = substitute(stage.expression, {"scale": parse(scale)})
                cause = Cause(stage.clause, f"`{stage.clause}`: the scale is {scale}")
                yield cause, with_stage(spec, attention.path, stage, changed)
        if stage.kind == "mask":
            yield from _sides(spec, attention.path, stage)
        if stage.kind == "project":
            yield from _stacked(spec, attention.path, stage, sizes)
        yield from _averages(spec, attention.path, stage)
    yield from _query_heads(spec, attention)
    yield from _read_otherwise(spec, attention, configuration)
    yield from _grouped_axes(spec, configuration)
    yield from _blocks(spec, attention, sizes)


def _sides(spec: Spec, path: Path, stage: Stage) -> Iterator[Perturbation]:
    """A window given as one size that is taken for one side."""
    for side in sorted(names(stage.expression) & {"left", "right"}):
        changed = substitute(stage.expression, {side: Number(0)})
        yield Cause(stage.clause, f"`{stage.clause}` has a {side} side of 0"), with_stage(spec, path, stage, changed)


def _stacked(spec: Spec, path: Path, stage: Stage, sizes: Mapping[str, int]) -> Iterator[Perturbation]:
    """Of weights that are stacked another one."""
    found = {node: node.indices[0] for node in walk(stage.expression) if isinstance(node, Access)}
    for access, declared in found.items():
        if not isinstance(declared, Number):
            continue
        stacked = sizes.get(spec.tensors[access.tensor][0], 0)
        for other in (number for number in map(Number, range(stacked)) if number != declared):
            changed = Access(access.tensor, (other, *access.indices[1:]))

            def rule(expression: Expression, old: Access = access, new: Access = changed) -> Expression:
                return new if expression == old else expression

            text = f"`{stage.clause}` reads `{access.tensor}[{other.value}]`, declared `{access.tensor}[{declared.value}]`"
            yield Cause(stage.clause, text), with_stage(spec, path, stage, rewritten(stage.expression, rule))


def _averages(spec: Spec, path: Path, stage: Stage) -> Iterator[Perturbation]:
    """A sum or one head in the place of a mean."""
    match stage.expression:
        case Binary("/", Sum("n", body) as total, Name("N")):
            first = substitute(body, {"n": Number(0)})
            for text, changed in (("is the sum over heads, declared the mean", total), ("is that of the first head", first)):
                yield Cause(stage.clause, f"`{stage.defines}` {text}"), with_stage(spec, path, stage, changed)


def _query_heads(spec: Spec, attention: Attention) -> Iterator[Perturbation]:
    """Query heads as (G, K), which puts those of a group apart."""
    if attention.scope.get("G", 1) != 1 and attention.scope.get("K", 1) != 1:
        moved = tuple(parse("n % G * K + n // G") if dim == "N" else Name(dim.lower()) for dim in spec.tensors["query"])
        changed = read_at(spec, attention.path, "query", Access("query", moved))
        yield Cause("heads", "query heads are read as (G, K), declared (K, G)"), changed


def _read_otherwise(spec: Spec, attention: Attention, configuration: Configuration) -> Iterator[Perturbation]:
    """An optional tensor of the next batch row, or with queries and keys swapped, which fits where they are as many."""
    given = {name for name, _ in configuration.tensors}
    for argument in (each for each in spec.tensor_arguments if not each.required and each.name in given):
        tensor = argument.feeds or argument.name
        dims = spec.tensors.get(tensor, ())
        if "B" in dims and attention.scope.get("B", 1) != 1:
            for where, row in OTHER_ROWS.items():
                moved = tuple(parse(row) if dim == "B" else Name(dim.lower()) for dim in dims)
                text = f"`{argument.name}` is taken of the batch row {where}"
                yield Cause(argument.name, text), read_at(spec, attention.path, tensor, Access(tensor, moved))
        if {"T", "S"} <= set(dims) and attention.scope.get("T") == attention.scope.get("S"):
            swap = {"T": "s", "S": "t"}
            moved = tuple(Name(swap.get(dim, dim.lower())) for dim in dims)
            changed = read_at(spec, attention.path, tensor, Access(tensor, moved))
            yield Cause(argument.name, f"`{argument.name}` is transposed: queries and keys swapped"), changed


def _grouped_axes(spec: Spec, configuration: Configuration) -> Iterator[Perturbation]:
    """A matrix whose axis is split in another order of its dims, or that is transposed."""
    plans = dict(configuration.tensors)
    for argument in (each for each in spec.arguments if each.name in plans and each.layouts):
        (layout, *others) = argument.layouts
        if others or not any(len(axis.dims) > 1 for axis in layout.axes):
            continue
        order = Layout(tuple(Axis(_heads_last(axis.dims), axis.or_one) for axis in layout.axes), layout.batched)
        yield Cause(argument.name, f"`{argument.name}` has its heads interleaved"), _with_layout(spec, argument, order)
        if len(set(plans[argument.name].shape)) == 1 < len(layout.axes):
            turned = replace(layout, axes=layout.axes[::-1])
            yield Cause(argument.name, f"`{argument.name}` is transposed"), _with_layout(spec, argument, turned)


def _heads_last(dims: tuple[str, ...]) -> tuple[str, ...]:
    """Heads after the dim that they have, which comes next to them."""
    place = next((place for place, dim in enumerate(dims[:-1]) if dim in "NK"), None)
    return dims if place is None else (*dims[:place], dims[place + 1], dims[place], *dims[place + 2 :])


def _with_layout(spec: Spec, argument: Argument, layout: Layout) -> Spec:
    changed = replace(argument, layouts=(layout,))
    return replace(spec, arguments=tuple(changed if each is argument else each for each in spec.arguments))


# -- blocks -------------------------------------------------------------------------------------------------------


def _blocks(spec: Spec, attention: Attention, sizes: Mapping[str, int]) -> Iterator[Perturbation]:
    """Keys, queries or head dims that a loop over blocks does not reach."""
    path = attention.path
    for block in BLOCKS:
        last = f"the last, partial block of {block}"
        if sizes.get("S", 1) > block:
            yield _hidden(spec, path, f"keys from {block} on are not seen", f"s < {block}")
            yield _partly_summed(spec, path, block)
            yield from _wrapped(spec, path, block)
            if sizes["S"] % block:
                yield _hidden(spec, path, f"keys of {last} are not seen", f"s < S // {block} * {block}")
        if sizes.get("T", 1) > block:
            yield _zeroed(spec, path, f"queries from {block} on give zero", f"t < {block}")
            if sizes["T"] % block:
                yield _zeroed(spec, path, f"queries of {last} give zero", f"t < T // {block} * {block}")
        if sizes.get("H", 1) > block:
            yield from _shortened(spec, path, block)


def _hidden(spec: Spec, path: Path, text: str, rule: str) -> Perturbation:
    mask = Stage("block", "mask", "attends", parse(rule))
    return Cause("block", text), with_path(spec, path, replace(path, stages=before_softmax(path, mask)))


def _partly_summed(spec: Spec, path: Path, block: int) -> Perturbation:
    """A softmax that divides by the sum over its first block of keys."""
    place = next(number for number, stage in enumerate(path.stages) if stage.kind == "softmax") + 1
    summed = Stage("block", "modifier", "weight", parse(f"weight / sum(s, where(s < {block}, weight, 0))"))
    changed = replace(path, stages=(*path.stages[:place], summed, *path.stages[place:]))
    return Cause("block", f"the softmax's sum takes the first {block} keys alone"), with_path(spec, path, changed)


def _wrapped(spec: Spec, path: Path, block: int) -> Iterator[Perturbation]:
    """An index of keys that is too narrow and begins again."""
    wrap = {"s": parse(f"s % {block}")}
    for word, tensors in WRAPPED.items():

        def rule(expression: Expression, tensors: tuple[str, ...] = tensors) -> Expression:
            reads = isinstance(expression, Access) and expression.tensor in tensors
            return substitute(expression, wrap) if reads else expression

        stages = tuple(replace(stage, expression=rewritten(stage.expression, rule)) for stage in path.stages)
        cause = Cause("block", f"{word} from {block} on are the first ones again (`s % {block}`)")
        yield cause, with_path(spec, path, replace(path, stages=stages))


def _zeroed(spec: Spec, path: Path, text: str, rule: str) -> Perturbation:
    """Rows of the output, where the spec would put a rule for them: after values are combined."""
    place = next(number for number, stage in enumerate(path.stages) if stage.kind == "combine") + 1
    rows = Stage("block", "rows", "output", parse(rule))
    return Cause("block", text), with_path(spec, path, replace(path, stages=(*path.stages[:place], rows, *path.stages[place:])))


def _shortened(spec: Spec, path: Path, block: int) -> Iterator[Perturbation]:
    """A product of query and key over the first head dims alone."""
    for stage in (stage for stage in path.stages if stage.kind == "score"):
        match stage.expression:
            case Sum("h", body):
                changed = Sum("h", Call("where", (parse(f"h < {block}"), body, Number(0))))
                yield (
                    Cause("block", f"head dims from {block} on are not multiplied"),
                    with_stage(spec, path, stage, fold(changed)),
                )
