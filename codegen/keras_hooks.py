"""The attention between the projections of a Keras layer, as functions: those that its hooks call.

Where the weights are wanted the layer computes them step by step, and each step is a hook that a subclass may replace: scores
of projected heads, `_masked_softmax`, and what the weights make of the values. Otherwise it is one function, `_attend`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from attnspec.codegen.keras_projections import dense_layers
from attnspec.codegen.keras_settings import is_settled
from attnspec.spec.expression import Call, Name, names
from attnspec.spec.layouts import parse_layout
from attnspec.spec.model import Argument, Output, Path, Spec, Stage

INNER = ("query", "key", "value")
"""What the attention between the projections is a function of."""
MASK = "attention_mask"
ATTEND, SCORES, SOFTMAX, APPLIED = "_attend", "_attention_scores", "_masked_softmax", "_apply_weights"
_BY_HEAD = Output("output", "output", (parse_layout("B T N V"),), doc="the attended values, by head")
_JOINT = Stage("mask.attention", "mask", "attends", Name(MASK), Call("given", (Name(MASK),)))
"""All masks of a call together."""


def hook_specs(spec: Spec) -> tuple[Spec, ...]:
    """The functions of the hooks, in the order of their use."""
    explicit = spec.paths[0].stages
    before = tuple(s for s in explicit if s.kind in ("score", "modifier") or s in _scaled(spec, spec.paths[0]))
    # Without a seed of its own a layer leaves dropout to its sublayer.
    dropped = ("dropout",) if any(argument.role == "seed" for argument in spec.constructor) else ()
    after = tuple(s for s in explicit if s.kind in (*dropped, "combine"))
    scores, mask = replace(_tensor(spec, "scores", "logit"), doc="scores of queries and keys"), _mask_argument()
    weights = replace(_tensor(spec, "weights", "weight"), doc="weights of the values")
    query, key, value = (replace(_tensor(spec, name, name), doc=f"projected {name}") for name in INNER)
    return (
        *((_attend(spec, (query, key, value, mask)),) if len(spec.paths) > 1 and not is_settled(spec) else ()),
        _function(
            spec, SCORES, "Scores of queries and keys.", (query, key), _only(spec, before), _output(spec, "scores", "logit")
        ),
        _function(
            spec,
            SOFTMAX,
            "Weights of scores.",
            (scores, mask),
            tuple(map(_softmax, spec.paths)) if is_settled(spec) else (replace(_softmax(spec.paths[0]), when=None),),
            _output(spec, "weights", "weight"),
        ),
        _function(spec, APPLIED, "Values attended by weights.", (weights, value), _only(spec, after), _BY_HEAD),
    )


def _only(spec: Spec, stages: tuple[Stage, ...], path: Path | None = None) -> tuple[Path]:
    """One path, of these stages."""
    return (replace(path or spec.paths[0], when=None, stages=stages),)


def _softmax(path: Path) -> Path:
    return replace(path, stages=(_JOINT, *(stage for stage in path.stages if stage.kind == "softmax")))


def _attend(spec: Spec, tensors: tuple[Argument, ...]) -> Spec:
    """The path without weights; of its masks, the causal one and what the others make together."""
    path = spec.paths[-1]
    rest = tuple(s for s in path.stages if s.kind not in ("project", "mask", "output") or s in _scaled(spec, path))
    first = next(number for number, stage in enumerate(rest) if stage.kind == "softmax")
    causal = (s for s in path.stages if s.clause == "mask.causal")
    stages = (*rest[:first], _JOINT, *causal, *rest[first:])
    return _function(spec, ATTEND, "The attention between the projections.", tensors, _only(spec, stages, path), _BY_HEAD)


def _scaled(spec: Spec, path: Path) -> tuple[Stage, ...]:
    """What a path does to the heads before their product, past their projections."""
    projections = {stage.clause for dense in dense_layers(spec) for stage in dense.stages}
    return tuple(s for s in path.stages if s.kind == "project" and s.clause not in projections)


def _function(
    spec: Spec,
    name: str,
    summary: str,
    tensors: Iterable[Argument],
    paths: tuple[Path, ...],
    output: Output,
) -> Spec:
    """A function of these tensors, and of the arguments that the paths read."""
    stages = tuple(stage for path in paths for stage in path.stages)
    given, read = tuple(tensors), frozenset(_read(paths))
    own = {weight.name for weight in spec.weights}
    grouped = any("K" in argument.layouts[0].dims for argument in given)
    return replace(
        spec,
        name=f"{spec.name}.{name}",
        form="function",
        summary=summary,
        constructor=tuple(
            a for a in spec.constructor if a.name in read or (a.role == "seed" and any(s.kind == "dropout" for s in stages))
        ),
        arguments=(*given, *(a for a in spec.arguments if a.role in ("flag", "training") and a.name in read)),
        weights=(),
        paths=paths,
        outputs=(output,),
        preconditions=(),
        attributes={},
        tensors={n: dims for n, dims in spec.tensors.items() if n not in own} | {MASK: spec.tensors["logit"]},
        sizes={n: rule for n, rule in spec.sizes.items() if n == "G" and grouped},
    )


def _read(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        for part in (path.when, *(part for stage in path.stages for part in (stage.expression, stage.when))):
            if part is not None:
                yield from names(part)


def _tensor(spec: Spec, name: str, feeds: str) -> Argument:
    return Argument(name, "tensor", layouts=(parse_layout(" ".join(spec.tensors[feeds])),), feeds=feeds)


def _mask_argument() -> Argument:
    layouts = tuple(map(parse_layout, ("B|1 N|1 T|1 S|1", "B|1 T|1 S|1", "T|1 S|1")))
    doc = "True where a query attends to a key"
    return Argument(MASK, "tensor", required=False, layouts=layouts, dtype="bool", doc=doc)


def _output(spec: Spec, name: str, tensor: str) -> Output:
    return Output(name, tensor, (parse_layout(" ".join(spec.tensors[tensor])),), doc=f"the {name}")


__all__ = ["APPLIED", "ATTEND", "INNER", "MASK", "SCORES", "SOFTMAX", "hook_specs"]
