"""A spec's layer as a `keras.layers.Layer`: the class around its projections and the attention between them.

Projections (`keras_projections.py`) become `EinsumDense` sublayers, which bring initialisers, regularisers, constraints, dtype
policies and the places in a checkpoint that the spec declares (`path`). What lies between them are functions, compiled like any
other, one for each of the owner's hooks (`keras_hooks.py`): a subclass that replaces a hook changes the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.folding import axes_argument
from attnspec.codegen.keras_class import layer_class
from attnspec.codegen.keras_hooks import APPLIED, ATTEND, INNER, MASK, SCORES, SOFTMAX, hook_specs
from attnspec.codegen.keras_masks import CAUSAL, joined, joint_mask, mask_parameters, position_masks
from attnspec.codegen.keras_projections import Dense, common_settings, dense_layers, einsum_dense, last_projection
from attnspec.codegen.keras_settings import (
    NAMED,
    WANTED,
    class_name,
    configured,
    constructor,
    guarded_by,
    held,
    keeps_wish,
    kept,
    size_text,
)
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.prologue import call_checks, tensor_checks
from attnspec.spec.expression import Binary, Call, Expression, Name, fold, names, substitute, to_text
from attnspec.spec.model import Argument, Spec

_HOOK = {
    MASK: "Any = None",
    "training": "bool | None = None",
    "return_attention_scores": "bool = False",
    "use_causal_mask": "bool = False",
}
"""What a layer's own attention may take beside query, key and value."""


def keras_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of a layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    dense = dense_layers(spec)
    tensors = [argument for argument in spec.arguments if argument.role == "tensor" and argument.dtype == "floating"]
    shapes = ", ".join(f"{a.name}_shape: Any" + (" = None" if a.optional else "") for a in tensors)
    methods = (
        ("__init__", f"self, {', '.join(parameters)}, **kwargs: Any", "None", constructor(spec, target)),
        ("build", f"self, {shapes}", "None", _build(spec, dense, tensors)),
        *((name, *_MADE_BY[name], _made_by(spec, dense, name)) for name in spec.methods),
        ("_get_common_kwargs_for_sublayer", "self", "dict[str, Any]", common_settings(spec)),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec, target, dense)),
        (f"_compute_{MASK}", f"self, query: Any, value: Any, {mask_parameters(spec)}", "Any", joint_mask(spec, target)),
        *position_masks(spec, target),
        ("_compute_attention", f"self, {_hook_parameters(spec)}", "tuple[Any, Any]", _attention(spec)),
        (SOFTMAX, f"self, scores: Any, {MASK}: Any = None", "Any", _softmax()),
        ("compute_output_shape", f"self, {shapes}", "tuple[Any, ...]", _output_shape(spec, tensors)),
        ("compute_output_spec", f"self, {', '.join(call)}", "Any", _output_spec(spec, tensors)),
        ("get_config", "self", "dict[str, Any]", (*configured(spec, target), "return config")),
    )
    name = class_name(spec)
    exported = [f"\n{spec.class_name} = {name}"] if name != spec.class_name else []
    return "\n\n".join((layer_class(name, target, docstring, methods, spec.properties), *exported))


def _build(spec: Spec, dense: tuple[Dense, ...], tensors: list[Argument]) -> Iterator[str]:
    shape_of = {a.feeds or a.name: f"{a.name}_shape" for a in tensors}
    axes = axes_argument(spec)
    if axes is not None:
        own = kept(spec, axes.name)
        yield f'{own} = tuple(_places("{axes.name}", {own}, len({tensors[0].name}_shape)))'
    yield from _shapes(spec, tensors)
    for dim, attribute in NAMED.items():
        first = next(a for a in tensors if dim in a.layouts[0].dims)
        yield f"self.{attribute} = {first.name}_shape[{first.layouts[0].dims.index(dim)}]"
    last = [each for each in dense if each.source not in shape_of]
    for each in (each for each in dense if each not in last):
        yield from _built(spec, each, shape_of[each.source])
    if _BETWEEN in spec.methods:
        yield f"self.{_BETWEEN}(4)"
    else:
        yield from _between(spec)
    for each in last:
        sizes = ", ".join(size_text(spec, dim) for dim in spec.tensors[each.source][2:])
        shape = f"(None, None, {sizes})"
        if _LAST in spec.methods:
            own = f'self.{_LAST}(query_shape, self._get_common_kwargs_for_sublayer(), "{each.name}")'
            yield f"self.{each.attribute} = {own}\nself.{each.attribute}.build({shape})"
        else:
            yield from _built(spec, each, shape)


_BETWEEN, _LAST = "_build_attention", "_make_output_dense"
_MADE_BY = {
    _BETWEEN: ("self, rank: int", "None"),
    _LAST: ("self, query_shape: Any, common_kwargs: dict[str, Any], name: str | None = None", "Any"),
}
"""Methods of owners that make a part of the layer, which a subclass may replace: their signatures, and what they return."""


def _made_by(spec: Spec, dense: tuple[Dense, ...], method: str) -> Iterator[str]:
    if method == _BETWEEN:
        yield '"""What the attention between the projections keeps, of projected heads of that rank."""'
        yield from _between(spec)
    else:
        yield from last_projection(spec, dense[-1])


def _between(spec: Spec) -> Iterator[str]:
    yield "self._softmax = keras.layers.Softmax(dtype=self.dtype_policy)  # for subclasses; the layer has its own"
    yield from _dropout(spec)


def _dropout(spec: Spec) -> Iterator[str]:
    """The sublayer that holds what dropout draws from, where Keras looks for it."""
    seed = next((argument.name for argument in spec.constructor if argument.role == "seed"), "")
    if seed:
        rate = kept(spec, _rate(spec))
        yield f"self._dropout_layer = keras.layers.Dropout({rate}, dtype=self.dtype_policy, seed={kept(spec, seed)})"


def _rate(spec: Spec) -> str:
    """The argument that is the rate of dropout."""
    stages = (stage for path in spec.paths for stage in path.stages if stage.kind == "dropout")
    return next(iter(names(next(stages).expression)))


def _built(spec: Spec, dense: Dense, shape: str) -> Iterator[str]:
    made = einsum_dense(spec, dense, f'name="{dense.name}"', "**self._get_common_kwargs_for_sublayer()")
    lines = f"self.{dense.attribute} = {made}\nself.{dense.attribute}.build({shape})"
    guard = guarded_by(spec, dense.kernel.when, None) if dense.kernel.when else ""
    yield f"if {guard}:\n{indent(lines)}" if guard else lines


def _shapes(spec: Spec, tensors: list[Argument]) -> Iterator[str]:
    """The shapes of the inputs, which fit their layouts and each other."""
    for argument in tensors:
        if isinstance(argument.unset, Name):
            name = f"{argument.name}_shape"
            yield f"{name} = {argument.unset.name}_shape if {name} is None else {name}"
    axes, names_ = axes_argument(spec), [f"{a.name}_shape" for a in tensors]
    if axes is not None:
        query, value, key = names_
        yield f"_equal_but_last({value}={value}, {key}={key})"
        yield f'spans = _spans("{axes.name}", {kept(spec, axes.name)}, {query}, {value})'
        yield f"{', '.join(names_)} = (_plain_shape(shape, spans) for shape in ({', '.join(names_)}))"
    given = (f'{a.name}_shape=({a.name}_shape, "{" ".join(a.layouts[0].dims)}")' for a in tensors)
    yield f"_fit({', '.join(given)})"


def _call(spec: Spec, target: Target, dense: tuple[Dense, ...]) -> Iterator[str]:
    inputs = {a.feeds or a.name: a.name for a in spec.arguments if a.role == "tensor"}
    printer = Printer(target, batched=False)
    if keeps_wish(spec):
        yield f"self._{WANTED} = {WANTED}"
    for argument in spec.arguments:
        if argument.role == "tensor" and isinstance(argument.unset, Name):
            yield f"{argument.name} = {argument.unset.name} if {argument.name} is None else {argument.name}"
    yield from _spans(spec)
    yield from (printer.statement(statement) for statement in tensor_checks(spec))
    for check in call_checks(spec):
        yield printer.statement(replace(check, fails=substitute(check.fails, held(spec))))
    yield from joined(spec)
    first = [each for each in dense if each.source in inputs]
    for each in sorted(first, key=lambda each: each.defines in INNER):
        line = f"{each.defines} = self.{each.attribute}({inputs[each.source]})"
        yield f"{line} if {guarded_by(spec, each.kernel.when, None)} else None" if each.kernel.when else line
    if spec.teller("K") is not spec.teller("N"):
        yield (
            "# A subclass's own attention gets a key and a value for every query head.\n"
            "if not own:\n"
            "    key, value = (ops.repeat(heads, query.shape[2] // heads.shape[2], axis=2) for heads in (key, value))"
        )
    folds = axes_argument(spec) is not None
    wish = {WANTED: f"{WANTED} or bool(spans)"} if folds else {}  # with more axes weights are always computed
    passed = [f"{name}={wish.get(name, name)}" for name in spec.hook if name != CAUSAL] + ["**alone"] * (CAUSAL in spec.hook)
    yield f"output, scores = self._compute_attention(query, key, value, {', '.join(passed)})"
    projections = {stage.clause for each in dense for stage in each.stages}
    for stage in spec.paths[-1].stages:
        if stage.kind == "output" and stage.clause not in projections:
            line = f"{stage.defines} = {to_text(fold(stage.expression))}"
            yield f"if {guarded_by(spec, stage.when, None)}:\n{indent(line)}" if stage.when is not None else line
    for each in dense:
        if each.source not in inputs:
            yield f"output = self.{each.attribute}(output)"
    if folds:
        yield 'output = _unfold(output, "T", spans)'
    scores = "_unfold_pairs(scores, spans)" if folds else "scores"
    yield f"return (output, {scores}) if return_attention_scores else output"


def _spans(spec: Spec) -> Iterator[str]:
    """How the axes of a call's inputs are put together; the layer knows which are the length once it is built."""
    axes = axes_argument(spec)
    if axes is not None:
        query, value, *_ = (a.name for a in spec.arguments if a.feeds)
        yield f'spans = _spans("{axes.name}", {kept(spec, axes.name)}, _sizes_of({query}), _sizes_of({value}))'


def _hook_parameters(spec: Spec) -> str:
    return ", ".join((*(f"{name}: Any" for name in INNER), *(f"{name}: {_HOOK[name]}" for name in spec.hook)))


def _attention(spec: Spec) -> Iterator[str]:
    """The attention between the projections, by its hooks; the one that subclasses replace."""
    functions = {each.function_name: each for each in hook_specs(spec)}
    yield '"""Output by head, and the weights before dropout where they are wanted: what a subclass may replace."""'
    yield f'{MASK} = None if {MASK} is None else ops.cast({MASK}, "bool")'
    if ATTEND in functions:
        when = spec.paths[0].when
        assert when is not None
        yield f"if not ({_asked(spec, when)}):\n    return {_called(spec, functions[ATTEND])}, None"
    if CAUSAL in spec.hook:
        yield f"if {CAUSAL}:\n    {MASK} = _all_of([self._compute_causal_mask(query, value), {MASK}])"
    yield f"weights = self.{SOFTMAX}({_called(spec, functions[SCORES])}, {MASK})"
    yield f"output = {_called(spec, functions[APPLIED])}"
    yield "return output, weights"


def _asked(spec: Spec, when: Expression) -> str:
    """A guard of a path, over what the layer holds."""
    wish = {WANTED: Name(f"self._{WANTED}")} if keeps_wish(spec) else {}
    return to_text(substitute(_without_folding(when), {**held(spec), **wish}))


def _without_folding(when: Expression) -> Expression:
    """The guard without the question after further axes, which the layer's call answers by asking for weights."""
    match when:
        case Binary("or", left, Call("folded")):
            return left
    return when


def _called(spec: Spec, function: Spec) -> str:
    """A call of one of the functions, its constructor's arguments from the layer."""
    drawn = f"self._dropout_layer.seed_generator if {kept(spec, _rate(spec))} > 0 else None"
    passed = [argument.name for argument in function.arguments]
    passed += [f"{a.name}={drawn if a.role == 'seed' else kept(spec, a.name)}" for a in function.constructor]
    return f"{function.function_name}({', '.join(passed)})"


def _softmax() -> Iterator[str]:
    yield '"""Weights of scores, (B, N, T, S): what a subclass may replace."""'
    yield f'return {SOFTMAX}(scores, None if {MASK} is None else ops.cast({MASK}, "bool"))'


def _output_shape(spec: Spec, tensors: list[Argument]) -> Iterator[str]:
    made = spec.outputs[0].layouts[0].dims
    if axes_argument(spec) is not None:
        yield f"shape = tuple({tensors[0].name}_shape)"
        yield from _shapes(spec, tensors)
        yield f"return (*shape[:-1], {size_text(spec, made[-1], {'E': 'shape[-1]'})})"
        return
    yield from _shapes(spec, tensors)
    same = [a.name for a in tensors if a.layouts[0].dims == made]
    yield f"return tuple({same[0]}_shape)" if same else f"return ({', '.join(_shape_size(spec, dim, tensors) for dim in made)})"


def _shape_size(spec: Spec, dim: str, tensors: list[Argument]) -> str:
    """A size of the output before the layer is built."""
    known = {dim: f"{a.name}_shape[{place}]" for a in reversed(tensors) for place, dim in enumerate(a.layouts[0].dims)}
    return known.get(dim) or size_text(spec, dim, known)


def _output_spec(spec: Spec, tensors: list[Argument]) -> Iterator[str]:
    shapes = ", ".join(
        f"{a.name}.shape if {a.name} is not None else None" if a.optional else f"{a.name}.shape" for a in tensors
    )
    yield f"output = keras.KerasTensor(self.compute_output_shape({shapes}), dtype=self.compute_dtype)"
    for output in spec.outputs[1:]:
        sizes = ", ".join(_spec_size(spec, dim, tensors) for dim in output.layouts[0].dims)
        assert output.when is not None
        body = f"return output, keras.KerasTensor(({sizes}), dtype=self.compute_dtype)"
        axes = axes_argument(spec)
        if axes is not None:
            query, value, *_ = (a.name for a in tensors)
            wide = f'(*spans["B"], {size_text(spec, "N")}, *spans["T"], *spans["S"])'
            body = (
                f'spans = _spans("{axes.name}", {kept(spec, axes.name)}, {query}.shape, {value}.shape)\n'
                f"shape = {wide} if spans else ({sizes})\n"
                "return output, keras.KerasTensor(shape, dtype=self.compute_dtype)"
            )
        yield f"if {to_text(output.when)}:\n{indent(body)}"
    yield "return output"


def _spec_size(spec: Spec, dim: str, tensors: list[Argument]) -> str:
    if spec.teller(dim) is not None:
        return size_text(spec, dim)
    first = next(a for a in tensors if dim in a.layouts[0].dims)
    return f"{first.name}.shape[{first.layouts[0].dims.index(dim)}]"


__all__ = ["keras_class"]
