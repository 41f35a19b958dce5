"""A layer of another framework as a Keras layer: its function, and a class that holds the weights.

Keras has no such layer, so there are no hooks and no places in a checkpoint to keep: a weight is a variable under its own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.keras_class import Method, layer_class
from attnspec.codegen.layer import (
    by_name,
    construction,
    each_weight,
    initial,
    kept_lines,
    own_arguments,
    shape,
    size_names,
    size_parameters,
)
from attnspec.codegen.printer import Target
from attnspec.spec.model import Argument, Spec

_SEED = Argument("seed", "seed", kind="keyword-only", required=False, doc="seed of dropout")


def seeded(spec: Spec) -> Spec:
    """The layer with a seed for its dropout: inside a traced function Keras draws from a generator that the layer keeps."""
    drops = any(stage.kind == "dropout" for path in spec.paths for stage in path.stages)
    if not drops or any(argument.role == "seed" for argument in spec.constructor):
        return spec
    return replace(spec, constructor=(*spec.constructor, _SEED))


def ported_layer(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of the layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    made_with = ", ".join(("self", *parameters, *by_name(parameters, tuple(size_parameters(spec))), "**kwargs: Any"))
    methods: tuple[Method, ...] = (
        ("__init__", made_with, "None", _constructor(spec, target)),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec, target)),
        ("get_config", "self", "dict[str, Any]", _config(spec)),
    )
    return layer_class(spec.class_name, target, docstring, methods)


def _constructor(spec: Spec, target: Target) -> Iterator[str]:
    yield "super().__init__(**kwargs)"
    yield from construction(spec, target)
    yield from kept_lines(spec, target)
    yield from (f"self.{size} = {size}" for size in size_names(spec))
    yield from each_weight(
        spec,
        target,
        lambda weight: (
            f'self.{weight.name} = self.add_weight(name="{weight.name}", shape={shape(spec, weight)}, '
            f"initializer={initial(spec, weight, target.name)})"
        ),
    )
    yield "self.built = True"


def _call(spec: Spec, target: Target) -> Iterator[str]:
    yield "params: dict[str, Any] = {}"
    yield from each_weight(spec, target, lambda weight: f'params["{weight.name}"] = self.{weight.name}', prefix="self.")
    passed = (a.name if a.kind == "positional" else f"{a.name}={a.name}" for a in spec.arguments)
    yield f"return _apply(params, {', '.join((*passed, *own_arguments(spec)))})"


def _config(spec: Spec) -> Iterator[str]:
    yield "config = super().get_config()"
    for name in (*(a.name for a in spec.constructor if a.role != "placement"), *size_names(spec)):
        yield f'config["{name}"] = self.{name}'
    yield "return config"


__all__ = ["ported_layer", "seeded"]
