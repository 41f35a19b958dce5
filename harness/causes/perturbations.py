"""The vocabulary of causes: every single-field perturbation of a spec that applies to a call, each with its name in words.

A perturbation is a `Cause` and the spec that has it. They follow the axes on which real attentions differ: polarity,
alignment, window edges, lengths, scale, place of the soft cap, head map, broadcast axes, fill, empty rows, dtypes, a
clause that is dropped. Faults that are no field of the spec (a gradient's, an output's dtype) are beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from math import inf

from attnspec.harness.causes.rewriting import backwards, rewritten, tiled, with_path, with_stage, without
from attnspec.harness.configuration import Configuration
from attnspec.harness.facts import facts
from attnspec.harness.visible_changes import by_position
from attnspec.spec.expression import (
    Access,
    Binary,
    Expression,
    Name,
    Number,
    Unary,
    fold,
    names,
    parse,
    substitute,
    to_text,
    walk,
)
from attnspec.spec.model import Argument, Axis, Layout, Path, Policy, Spec, Stage
from attnspec.spec.resolve import Attention, resolve
from attnspec.spec.returns import parts

FILLS: dict[str, Expression] = {"-inf": Unary("-", Number(inf)), "-1e4": parse("-1e4"), "-1e9": parse("-1e9")}
REPLACED, ADDED = parse("where(visible, logit, fill)"), parse("logit + where(visible, 0, fill)")
ROWS = {"zero": "zero", "uniform": "the mean of all values", "nan": "NaN"}
ROUNDED = {"rounded": "what rounding leaves of the logits"}  # which no other fill can imitate
DTYPES = {
    "logits.dtype": ("input", "float32"),
    "softmax.dtype": ("input", "float32"),
    "weights.dtype": ("input", "softmax"),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault by name. `clause` is the field of the spec that it is about; `text` says what is there instead."""

    clause: str
    text: str


Perturbation = tuple[Cause, Spec]


def perturbations(spec: Spec, configuration: Configuration) -> Iterator[Perturbation]:
    """Everything in one field of the spec that could be otherwise in a call."""
    attention = resolve(spec, facts(spec, configuration))
    for stage in attention.stages:
        if stage.kind in ("mask", "modifier", "rows"):
            yield Cause(stage.clause, f"`{stage.clause}` is dropped"), _drop(spec, attention.path, stage)
        if stage.kind == "mask":
            yield from _masks(spec, attention.path, stage)
        if stage.kind == "modifier":
            yield from _modifiers(spec, attention.path, stage)
    yield from _assembled(spec, attention)
    yield from _order(spec, attention)
    yield from _heads(spec, attention)
    yield from _broadcasts(spec, attention, configuration)
    yield from _empty_rows(spec, attention.path)
    if any(stage.kind == "mask" for stage in attention.stages):
        yield from _fills(spec, attention)
    yield from _dtypes(spec, attention.path, configuration.dtype)


def _drop(spec: Spec, path: Path, stage: Stage) -> Spec:
    return with_path(spec, path, without(path, stage))


def _assembled(spec: Spec, attention: Attention) -> Iterator[Perturbation]:
    """Keys that an argument appends are not, nor what goes with them: their values, what masks say of them."""
    for stage in attention.stages:
        if stage.kind == "assemble" and stage.defines == "key" and stage.when is not None:
            asked = {*parts(stage.when, "and")}
            kept = tuple(each for each in attention.path.stages if not _belongs(each, asked))
            cause = Cause(stage.clause, f"`{stage.clause}` and what goes with it are dropped")
            yield cause, with_path(spec, attention.path, replace(attention.path, stages=kept))


def _belongs(stage: Stage, asked: set[Expression]) -> bool:
    """Whether a stage assembles something where all of that is asked."""
    return stage.kind == "assemble" and stage.when is not None and asked <= {*parts(stage.when, "and")}


# -- masks --------------------------------------------------------------------------------------------------------


def _masks(spec: Spec, path: Path, stage: Stage) -> Iterator[Perturbation]:
    """A mask inverted, moved, aligned at the other corner, its edges moved one by one."""
    for text, expression in _other_masks(stage):
        yield Cause(stage.clause, f"`{stage.clause}` {text}"), with_stage(spec, path, stage, expression)


def _other_masks(stage: Stage) -> Iterator[tuple[str, Expression]]:
    rule = stage.expression
    indexed = {name for node in walk(rule) if isinstance(node, Access) for name in names(node)}
    yield "has the other polarity: what may be seen is hidden", Unary("not", rule)
    if by_position(rule):
        corner = "top-left" if "S" in names(rule) else "bottom-right"
        shift = parse("t + (S - T)" if corner == "bottom-right" else "t - (S - T)")
        moved = substitute(rule, {"t": shift})
        declared = to_text(fold(rule))
        yield f"is aligned {corner} (`{to_text(fold(moved))}`), declared `{declared}`", moved
    if "s" in names(rule) and "s" not in indexed:
        for sign, way in (("-", "later"), ("+", "earlier")):
            moved = substitute(rule, {"s": parse(f"s {sign} 1")})
            yield f"ends one key {way}: `{to_text(fold(moved))}`, declared `{to_text(fold(rule))}`", moved
    if "t" in names(rule) and not names(rule) & {"s"} and "t" not in indexed:
        for sign, way in (("-", "later"), ("+", "earlier")):
            yield f"ends one query {way}", substitute(rule, {"t": parse(f"t {sign} 1")})
    yield from _edges(rule)


def _edges(rule: Expression) -> Iterator[tuple[str, Expression]]:
    """The sides of a window."""
    sides = names(rule) & {"left", "right"}
    for side in sorted(sides):
        for sign, word in (("-", "narrower"), ("+", "wider")):
            yield f"is one key {word} on the {side}", substitute(rule, {side: parse(f"{side} {sign} 1")})
        yield f"has no {side} edge", substitute(rule, {side: parse("1000000")})
    if len(sides) == 2:
        yield "has its sides swapped", substitute(rule, {"left": Name("right"), "right": Name("left")})
    if "b" in {name for node in walk(rule) if isinstance(node, Access) for name in names(node)}:
        yield "takes the first batch's values for all", substitute(rule, {"b": Number(0)})


# -- logits -------------------------------------------------------------------------------------------------------

SCALES = {
    "is H ** -0.5 whatever is given": "H ** -0.5",
    "is V ** -0.5": "V ** -0.5",
    "is (N * H) ** -0.5, of the model dim": "(N * H) ** -0.5",
    "is applied twice": "scale * scale",
    "is 1 / scale": "1 / scale",
}


def _modifiers(spec: Spec, path: Path, stage: Stage) -> Iterator[Perturbation]:
    if "scale" in names(stage.expression):
        letters = {letter for argument in spec.tensor_arguments for layout in argument.layouts for letter in layout.dims}
        for text, expression in SCALES.items():
            if not names(parse(expression)) <= {"scale", *letters}:
                continue  # a size that the API does not tell from another one
            changed = substitute(stage.expression, {"scale": parse(expression)})
            yield Cause(stage.clause, f"`{stage.clause}`: the scale {text}"), with_stage(spec, path, stage, changed)
    if "cap" in names(stage.expression):
        changed = substitute(stage.expression, {"cap": parse("1 / cap")})
        yield Cause(stage.clause, f"`{stage.clause}`: the cap is 1 / cap"), with_stage(spec, path, stage, changed)
    if stage.expression == parse("logit + bias") or "bias" in stage.clause:
        flipped = rewritten(stage.expression, _subtracted)
        if flipped != stage.expression:
            yield Cause(stage.clause, f"`{stage.clause}` is subtracted"), with_stage(spec, path, stage, flipped)


def _subtracted(expression: Expression) -> Expression:
    match expression:
        case Binary("+", Name("logit"), term):
            return Binary("-", Name("logit"), term)
    return expression


def _order(spec: Spec, attention: Attention) -> Iterator[Perturbation]:
    """Two modifiers the other way round: a bias that is scaled too, a cap after the bias."""
    modifiers = [stage for stage in attention.stages if stage.kind == "modifier"]
    for place, first in enumerate(modifiers):
        for second in modifiers[place + 1 :]:
            swap = {id(first): second, id(second): first}
            stages = tuple(swap.get(id(stage), stage) for stage in attention.path.stages)
            text = f"`{second.clause}` comes before `{first.clause}`"
            yield Cause(second.clause, text), with_path(spec, attention.path, replace(attention.path, stages=stages))


# -- axes ---------------------------------------------------------------------------------------------------------


def _heads(spec: Spec, attention: Attention) -> Iterator[Perturbation]:
    """Another key/value head for each query head."""
    for text, changed in other_heads(spec, attention):
        yield Cause("heads", f"key/value heads {text}"), changed


def other_heads(spec: Spec, attention: Attention) -> Iterator[tuple[str, Spec]]:
    """What key/value heads are taken for each query head, in words, and the spec that does so."""
    if attention.scope.get("K", 1) == 1:
        return
    rules: dict[str, Callable[[Expression], Expression]] = {
        "are taken from the other end": backwards,
        "are all the first one": lambda e: Number(0) if e == Binary("//", Name("n"), Name("G")) else e,
    }
    if attention.scope.get("G", 1) != 1:
        rules["are tiled (n % K), declared repeated (n // G)"] = tiled
    for text, rule in rules.items():
        stages = tuple(replace(stage, expression=rewritten(stage.expression, rule)) for stage in attention.path.stages)
        yield text, with_path(spec, attention.path, replace(attention.path, stages=stages))


def _broadcasts(spec: Spec, attention: Attention, configuration: Configuration) -> Iterator[Perturbation]:
    """An optional tensor whose first head or batch stands for all, or that is read along the wrong axis."""
    plans = dict(configuration.tensors)
    for argument in spec.tensor_arguments:
        operator = argument.feeds or argument.name
        dims = spec.tensors.get(operator, ())
        if argument.required or argument.name not in plans:
            continue
        for letter, word in (("n", "head"), ("b", "batch"), ("t", "query")):
            if letter.upper() in dims and len(dims) > 1:
                indices = tuple(Number(0) if dim.lower() == letter else Name(dim.lower()) for dim in dims)
                changed = read_at(spec, attention.path, operator, Access(operator, indices))
                yield Cause(argument.name, f"`{argument.name}` of the first {word} is taken for all"), changed
        rank = len(plans[argument.name].shape)
        if any(_misread(layout) and len(layout.axes) == rank for layout in argument.layouts):
            text = f"`{argument.name}` of rank {rank} is read as a batch without heads"
            yield Cause(argument.name, text), _with_argument(spec, argument, tuple(map(_as_batch, argument.layouts)))


def read_at(spec: Spec, path: Path, operator: str, access: Access) -> Spec:
    """The operator's tensor indexed otherwise, wherever it stands for itself."""

    def rule(expression: Expression) -> Expression:
        is_access = isinstance(expression, Access) and expression.tensor == operator
        return access if is_access or expression == Name(operator) else expression

    stages = tuple(replace(stage, expression=rewritten(stage.expression, rule)) for stage in path.stages)
    return with_path(spec, path, replace(path, stages=stages))


def _misread(layout: Layout) -> bool:
    return "N" in layout.dims and "B" not in layout.dims


def _as_batch(layout: Layout) -> Layout:
    axes = tuple(Axis(("B",), axis.or_one) if axis.dims == ("N",) else axis for axis in layout.axes)
    return replace(layout, axes=axes) if _misread(layout) else layout


def _with_argument(spec: Spec, argument: Argument, layouts: tuple[Layout, ...]) -> Spec:
    changed = replace(argument, layouts=layouts)
    return replace(spec, arguments=tuple(changed if each is argument else each for each in spec.arguments))


# -- hidden keys and dtypes ---------------------------------------------------------------------------------------


def _empty_rows(spec: Spec, path: Path) -> Iterator[Perturbation]:
    """What becomes of a row without a key."""
    declared = path.policies["empty_row"].value
    for rule in (rule for rule in ROWS if rule != declared):
        yield (
            Cause("empty_row", f"an empty row is {ROWS[rule]}, declared {(ROWS | ROUNDED)[declared]}"),
            with_empty_row(spec, path, rule),
        )


def with_empty_row(spec: Spec, path: Path, rule: str) -> Spec:
    """The spec with another rule for empty rows; a fill that would have made them by itself makes way."""
    fill = path.policies["mask.fill"]
    keeps = rule == "uniform" and fill.value == "replace"
    fill = replace(fill, detail=fill.detail if keeps else "-inf")
    return _with_policies(spec, path, {"empty_row": Policy(rule, "ruled"), "mask.fill": fill})


def _fills(spec: Spec, attention: Attention) -> Iterator[Perturbation]:
    """What hidden logits become."""
    declared = attention.path.policies["mask.fill"]
    capped = {"-cap": parse("-cap")} if "cap" in attention.scope else {}  # hidden logits that are capped like the others
    for name, value in (FILLS | _own_fill(declared) | capped).items():
        if declared.value == "add" and declared.detail.startswith(name):
            continue
        yield added_fill(declared, name), _filled(spec, attention, ADDED, value)
        if name not in (declared.detail, "-inf"):  # a replacement by -inf is about empty rows
            yield replaced_fill(declared, name), _filled(spec, attention, REPLACED, value)


def added_fill(declared: Policy, fill: str) -> Cause:
    """A fill that is added to the logits: NaN in a hidden key reaches its rows."""
    return Cause("mask.fill", _fill_text("increased by", fill, declared))


def replaced_fill(declared: Policy, fill: str) -> Cause:
    """Another fill in the place of the logits."""
    return Cause("mask.fill", _fill_text("replaced by", fill, declared))


def _fill_text(way: str, fill: str, declared: Policy) -> str:
    return f"hidden logits are {way} {fill}, declared {declared.value} with {declared.detail}"


def _own_fill(declared: Policy) -> dict[str, Expression]:
    """The path's own fill, where it is finite."""
    finite = declared.detail.startswith("-0.7")
    return {declared.detail: Unary("-", Number(0.7 * float.fromhex("0x1.fffffep+127")))} if finite else {}


def _filled(spec: Spec, attention: Attention, rule: Expression, fill: Expression) -> Spec:
    """All masks together as one change of the logits, just before the softmax."""
    masks = [stage for stage in attention.stages if stage.kind == "mask"]
    visible = reduce(lambda one, other: Binary("and", one, other), (stage.expression for stage in masks))
    stages = [stage for stage in attention.path.stages if all(stage is not mask for mask in masks)]
    place = next(number for number, stage in enumerate(stages) if stage.kind == "softmax")
    stages.insert(place, Stage("mask.fill", "modifier", "logit", substitute(rule, {"visible": visible, "fill": fill})))
    return with_path(spec, attention.path, replace(attention.path, stages=tuple(stages)))


def _with_policies(spec: Spec, path: Path, policies: dict[str, Policy]) -> Spec:
    return with_path(spec, path, replace(path, policies={**path.policies, **policies}))


def _dtypes(spec: Spec, path: Path, dtype: str) -> Iterator[Perturbation]:
    for name, values in DTYPES.items():
        for value in (value for value in values if value != path.policies[name].value):
            changed = _with_policies(spec, path, {name: Policy(value, "ruled")})
            if dtype == "float16" and (name, value) == ("softmax.dtype", "input"):  # in which the fill is infinite
                changed = with_empty_row(changed, changed.paths[spec.paths.index(path)], "nan")
            yield other_dtype(name, path, value), changed


def other_dtype(name: str, path: Path, value: str) -> Cause:
    """A policy of dtypes that is another one."""
    return Cause(name, f"`{name}` is {value}, declared {path.policies[name].value}")
