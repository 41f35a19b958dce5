"""A spec's layer as a `keras.layers.Layer`: the class around its projections and the attention between them.

Projections (`keras_projections.py`) become `EinsumDense` sublayers, which bring initialisers, regularisers, constraints, dtype
policies and the places in a checkpoint that the spec declares (`path`). What lies between them are functions, compiled like any
other, one for each of the owner's hooks (`keras_hooks.py`): a subclass that replaces a hook changes the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from attnspec.codegen.folding import axes_argument, several
from attnspec.codegen.index_notation import align, lower
from attnspec.codegen.keras_hooks import APPLIED, ATTEND, INNER, MASK, SCORES, SOFTMAX, hook_specs
from attnspec.codegen.keras_projections import Dense, dense_layers
from attnspec.codegen.lower import canonical_scope
from attnspec.codegen.printer import ATOM, Printer, Target, indent
from attnspec.codegen.program import Check, Dims
from attnspec.codegen.prologue import call_checks, constructor_checks, is_late, tensor_checks
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Unary, fold, names, substitute, to_text
from attnspec.spec.model import Argument, Spec, Stage

Method = tuple[str, str, str, Iterable[str]]
_MASKED: Dims = ("B", "T", "S")
_POSITIONS = {"mask.causal": "_compute_causal_mask", "mask.window": "_compute_sliding_window_mask"}
"""Masks of positions, by the hook that makes them."""
_NAMED = {"E": "feature_dim"}
"""Sizes that no argument tells, by the attribute of the layer that holds them."""
_SETTING = {"flash_attention": "flash_attention or keras.config.is_flash_attention_enabled()"}
"""Arguments over which a setting of Keras has its say: the layer keeps what comes of both, and no configuration has it."""
_HOOK = {
    MASK: "Any = None",
    "training": "bool | None = None",
    "return_attention_scores": "bool = False",
    "use_causal_mask": "bool = False",
}
"""What a layer's own attention may take beside query, key and value."""
_WANTED, _CAUSAL = "return_attention_scores", "use_causal_mask"
_SPARE = "opqruwxyz"
"""Letters of an equation that no dim of a projection has."""


def keras_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The class of a layer. `parameters` are those of its constructor, `call` those of its call, as they are printed."""
    dense = dense_layers(spec)
    tensors = [argument for argument in spec.arguments if argument.role == "tensor" and argument.dtype == "floating"]
    shapes = ", ".join(f"{a.name}_shape: Any" + (" = None" if a.optional else "") for a in tensors)
    methods = (
        ("__init__", f"self, {', '.join(parameters)}, **kwargs: Any", "None", _constructor(spec, target)),
        ("build", f"self, {shapes}", "None", _build(spec, dense, tensors)),
        *((name, *_MADE_BY[name], _made_by(spec, dense, name)) for name in spec.methods),
        ("_get_common_kwargs_for_sublayer", "self", "dict[str, Any]", _common(spec)),
        ("call", f"self, {', '.join(call)}", "Any", _call(spec, target, dense)),
        (f"_compute_{MASK}", f"self, query: Any, value: Any, {_mask_parameters(spec)}", "Any", _masks(spec, target)),
        *_position_masks(spec, target),
        ("_compute_attention", f"self, {_hook_parameters(spec)}", "tuple[Any, Any]", _attention(spec)),
        (SOFTMAX, f"self, scores: Any, {MASK}: Any = None", "Any", _softmax()),
        ("compute_output_shape", f"self, {shapes}", "tuple[Any, ...]", _output_shape(spec, tensors)),
        ("compute_output_spec", f"self, {', '.join(call)}", "Any", _output_spec(spec, tensors)),
        ("get_config", "self", "dict[str, Any]", _config(spec)),
    )
    name = _class_name(spec)
    exported = [f"\n{spec.class_name} = {name}"] if name != spec.class_name else []
    return "\n\n".join((layer_class(name, docstring, methods, spec.properties), *exported))


def layer_class(name: str, docstring: str, methods: Iterable[Method], properties: Iterable[str] = ()) -> str:
    """A class that Keras saves and loads."""
    head = f"@keras.saving.register_keras_serializable(__name__)\nclass {name}(keras.layers.Layer):"
    return class_text(head, docstring, methods, properties)


def class_text(head: str, docstring: str, methods: Iterable[Method], properties: Iterable[str] = ()) -> str:
    """A class of that head. A method is its name, its signature, what it returns and its lines."""
    texts = [
        f"def {own}({signature}) -> {returned}:\n{indent(chr(10).join(body))}" for own, signature, returned, body in methods
    ]
    texts += [f"@property\ndef {own}(self) -> Any:\n    return self._{own}" for own in properties]
    return "\n\n".join((f"{head}\n{indent(docstring)}", *map(indent, texts)))


def _class_name(spec: Spec) -> str:
    """What the owner calls the class: checkpoints of models hold it."""
    return spec.defined_as or spec.class_name


def kept(spec: Spec, name: str) -> str:
    """Where the layer keeps an argument of its constructor: a seed is always there for all to see."""
    hidden = name in _SETTING or (spec.properties and spec.argument(name).role != "seed")
    return f"self._{name}" if hidden else f"self.{name}"


def _held(spec: Spec) -> dict[str, Expression]:
    """The constructor's arguments as the layer holds them; of axes, which it has once it is built, their number."""
    held = {argument.name: kept(spec, argument.name) for argument in spec.constructor}
    return {a.name: Name(f"len({held[a.name]})" if a.role == "axes" else held[a.name]) for a in spec.constructor}


def _constructor(spec: Spec, target: Target) -> Iterator[str]:
    yield "super().__init__(**kwargs)"
    yield "self.supports_masking = True"
    for argument in spec.constructor:
        if argument.name in _SETTING:
            yield f"{argument.name} = {_SETTING[argument.name]}"
        if argument.several:
            yield f"{argument.axes_name} = _listed({argument.name})"
            yield f"{argument.name} = None if {argument.name} is None else _product({argument.axes_name})"
    printer = Printer(target, batched=False)
    yield from (printer.statement(replace(_strict(spec, check), numbers=())) for check in constructor_checks(spec))
    for argument in spec.constructor:
        kind, value = _object_kind(argument), argument.name
        if argument.several or argument.role == "axes":
            value = argument.axes_name if argument.several else f"_listed({argument.name})"
        elif argument.tells and argument.unset is not None and not is_late(spec, argument):
            value = f"{to_text(argument.unset)} if {value} is None else {value}"
        yield f"{kept(spec, argument.name)} = {f'keras.{kind}.get({value})' if kind else value}"
    yield from (f"self.{name} = {printer.guard(rule)[0]}" for name, rule in spec.attributes.items())
    if _keeps_wish(spec):
        yield f"self._{_WANTED} = False"


def _keeps_wish(spec: Spec) -> bool:
    """Whether the layer has to remember that weights are wanted, for its hook is not told."""
    return len(spec.paths) > 1 and _WANTED not in spec.hook


def _strict(spec: Spec, check: Check) -> Check:
    """A check of a size that must be positive: it has to be an int too."""
    read = names(check.fails)
    if len(read) != 1 or any(spec.argument(name).role != "integer" for name in read):
        return check
    odd = Unary("not", Call("is_integer", (Name(next(iter(read))),)))
    match check.fails:
        case Binary("and", Unary("not", IsNone()) as given, Binary("<=") as rest):
            return replace(check, fails=Binary("and", given, Binary("or", odd, rest)))
        case Binary("<="):
            return replace(check, fails=Binary("or", odd, check.fails))
    return check


def _object_kind(argument: Argument) -> str:
    """The module of Keras that an object comes from: `initializers` of `kernel_initializer`."""
    return argument.name.rpartition("_")[2] + "s" if argument.role == "object" else ""


def _build(spec: Spec, dense: tuple[Dense, ...], tensors: list[Argument]) -> Iterator[str]:
    shape_of = {a.feeds or a.name: f"{a.name}_shape" for a in tensors}
    axes = axes_argument(spec)
    if axes is not None:
        own = kept(spec, axes.name)
        yield f'{own} = tuple(_places("{axes.name}", {own}, len({tensors[0].name}_shape)))'
    yield from _shapes(spec, tensors)
    for dim, attribute in _NAMED.items():
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
        sizes = ", ".join(_size(spec, dim) for dim in spec.tensors[each.source][2:])
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
        yield '"""The last projection."""'
        last = several(spec, dense[-1].kernel.layout)
        if last is not None:
            dim = dense[-1].kernel.layout.dims[-1].lower()
            yield f'{dim} = "{dim}{_SPARE}"[: len({kept(spec, last.name)} or "{dim}")]'
        yield f"return {_einsum_dense(spec, dense[-1], 'name=name', '**common_kwargs')}"


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
    made = _einsum_dense(spec, dense, f'name="{dense.name}"', "**self._get_common_kwargs_for_sublayer()")
    lines = f"self.{dense.attribute} = {made}\nself.{dense.attribute}.build({shape})"
    guard = _own(spec, dense.kernel.when, None) if dense.kernel.when else ""
    yield f"if {guard}:\n{indent(lines)}" if guard else lines


def _einsum_dense(spec: Spec, dense: Dense, *more: str) -> str:
    made = spec.tensors[dense.defines][2:]
    bias = "".join(dense.bias.layout.dims).lower() if dense.bias else ""
    equation, biases = f'"{dense.equation}"', f'"{bias}"'
    last = several(spec, dense.kernel.layout)
    if last is not None:
        dim = dense.kernel.layout.dims[-1].lower()
        equation, biases = f'f"{dense.equation.replace(dim, f"{{{dim}}}")}"', dim
    only = f" if {_own(spec, dense.bias.when, dense.kernel.when)} else None" if dense.bias and dense.bias.when else ""
    arguments = [
        equation,
        f"output_shape=(None, {', '.join(_size(spec, dim) for dim in made)})",
        f"bias_axes={biases}{only}" if bias else "bias_axes=None",
        *([f'activation="{dense.activation}"'] if dense.activation else []),
        *more,
    ]
    return f"_EinsumDense({', '.join(arguments)})"


def _own(spec: Spec, when: Expression | None, given: Expression | None) -> str:
    """A guard over the constructor's arguments, which the layer holds; what `given` has asked already is left out."""
    assert when is not None
    match when:
        case Binary("and", left, right) if given in (left, right):
            when = right if left == given else left
    return to_text(substitute(when, _held(spec)))


def _size(spec: Spec, dim: str, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """A size that the layer knows; one that is not told may be that of another dim."""
    teller = spec.teller(dim)
    if teller is None:
        return known.get(dim) or f"self.{_NAMED[dim]}"
    own = kept(spec, teller.name)
    if not is_late(spec, teller):
        return own
    assert isinstance(teller.unset, Name)
    other = _size(spec, teller.unset.name, known)
    return f"*(({other},) if {own} is None else {own})" if teller.several else f"{other} if {own} is None else {own}"


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


def _common(spec: Spec) -> Iterator[str]:
    """What all sublayers share; each gets initialisers of its own, for an initialiser draws the same again."""
    yield '"""What all sublayers share; an initialiser each, for one that is shared would draw the same for all."""'
    for argument in spec.constructor:
        if argument.role == "object" and argument.name.endswith("initializer"):
            own = kept(spec, argument.name)
            yield f"{argument.name} = {own}.__class__.from_config({own}.get_config())"
    objects = [a.name for a in spec.constructor if a.role == "object"]
    passed = [f'"{name}": {name if name.endswith("initializer") else kept(spec, name)}' for name in objects]
    passed.append('"dtype": self.dtype_policy')
    yield f"return {{{', '.join(passed)}}}"


def _call(spec: Spec, target: Target, dense: tuple[Dense, ...]) -> Iterator[str]:
    inputs = {a.feeds or a.name: a.name for a in spec.arguments if a.role == "tensor"}
    printer = Printer(target, batched=False)
    if _keeps_wish(spec):
        yield f"self._{_WANTED} = {_WANTED}"
    for argument in spec.arguments:
        if argument.role == "tensor" and isinstance(argument.unset, Name):
            yield f"{argument.name} = {argument.unset.name} if {argument.name} is None else {argument.name}"
    yield from _spans(spec)
    yield from (printer.statement(statement) for statement in tensor_checks(spec))
    for check in call_checks(spec):
        yield printer.statement(replace(check, fails=substitute(check.fails, _held(spec))))
    yield from _joined(spec)
    first = [each for each in dense if each.source in inputs]
    for each in sorted(first, key=lambda each: each.defines in INNER):
        line = f"{each.defines} = self.{each.attribute}({inputs[each.source]})"
        yield f"{line} if {_own(spec, each.kernel.when, None)} else None" if each.kernel.when else line
    if spec.teller("K") is not spec.teller("N"):
        yield (
            "# A subclass's own attention gets a key and a value for every query head.\n"
            "if not own:\n"
            "    key, value = (ops.repeat(heads, query.shape[2] // heads.shape[2], axis=2) for heads in (key, value))"
        )
    folds = axes_argument(spec) is not None
    wish = {_WANTED: f"{_WANTED} or bool(spans)"} if folds else {}  # with more axes weights are always computed
    passed = [f"{name}={wish.get(name, name)}" for name in spec.hook if name != _CAUSAL] + ["**alone"] * (_CAUSAL in spec.hook)
    yield f"output, scores = self._compute_attention(query, key, value, {', '.join(passed)})"
    projections = {stage.clause for each in dense for stage in each.stages}
    for stage in spec.paths[-1].stages:
        if stage.kind == "output" and stage.clause not in projections:
            line = f"{stage.defines} = {to_text(fold(stage.expression))}"
            yield f"if {_own(spec, stage.when, None)}:\n{indent(line)}" if stage.when is not None else line
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


def _joined(spec: Spec) -> Iterator[str]:
    """The masks of a call as one; a causal mask alone is left to the layer's own attention, which needs no (T, S) for it."""
    masks = _mask_names(spec)
    joined = f"{MASK} = self._compute_{MASK}(query, value, {', '.join(f'{name}={name}' for name in (*masks, _CAUSAL))})"
    if _CAUSAL not in spec.hook:
        yield joined
        return
    windows = [kept(spec, a.name) for a in spec.constructor if a.name in _asked_by(spec)]
    yield f"own = type(self)._compute_attention is {_class_name(spec)}._compute_attention"
    yield f"others = ({', '.join((*masks, *windows))})"
    yield f'alone = {{"{_CAUSAL}": True}} if own and {_CAUSAL} and all(each is None for each in others) else {{}}'
    yield f"if not alone:\n    {joined}"


def _mask_names(spec: Spec) -> list[str]:
    return [a.name for a in spec.arguments if a.role == "tensor" and "bool" in a.dtype]


def _asked_by(spec: Spec) -> frozenset[str]:
    """The names in the guards of masks."""
    return frozenset[str]().union(*(names(stage.when) for stage in _mask_stages(spec) if stage.when is not None))


def _mask_parameters(spec: Spec) -> str:
    tensors = [f"{name}: Any = None" for name in _mask_names(spec)]
    return ", ".join((*tensors, f"{_CAUSAL}: bool = False"))


def _masks(spec: Spec, target: Target) -> Iterator[str]:
    """Every mask of the call over (B, T, S), and all of them together."""
    scope, printer = canonical_scope(spec), Printer(target, batched=False, rules=_rules(spec))
    yield '"""The masks of a call as one, (B|1, T, S); None where there is none."""'
    yield from (f'{name} = None if {name} is None else ops.cast({name}, "bool")' for name in _mask_names(spec))
    yield "masks: list[Any] = []"
    for stage in _mask_stages(spec):
        assert stage.when is not None
        if stage.clause in _POSITIONS:
            text = f"self.{_POSITIONS[stage.clause]}(query, value)"
        elif stage.expression == Name(MASK):
            text = MASK  # of whatever axes it has
        else:
            text = printer.node(align(lower(stage.expression, _MASKED, scope, stage.clause), _MASKED))[0]
        yield printer.comment(stage.clause)
        yield f"if {_own(spec, stage.when, None)}:\n    masks.append({text})"
    yield "return _all_of(masks)"


def _mask_stages(spec: Spec) -> list[Stage]:
    return [stage for stage in spec.paths[-1].stages if stage.kind == "mask"]


def _rules(spec: Spec) -> dict[str, str]:
    return {stage.clause: to_text(fold(stage.expression)) for stage in _mask_stages(spec)}


def _position_masks(spec: Spec, target: Target) -> Iterator[Method]:
    """The hooks for masks of positions."""
    for stage in _mask_stages(spec):
        if stage.clause in _POSITIONS:
            yield _POSITIONS[stage.clause], "self, query: Any, value: Any = None", "Any", _positions(spec, target, stage)


def _positions(spec: Spec, target: Target, stage: Stage) -> Iterator[str]:
    """One mask over (1, T, S), made of lengths."""
    scope, printer = canonical_scope(spec), Printer(target, batched=False, rules=_rules(spec))
    node = lower(stage.expression, _MASKED, scope, stage.clause)
    yield '"""True where a query attends to a key by their positions, (1, T, S); `value` tells S, or else `query`."""'
    yield from (f"{a.name} = {kept(spec, a.name)}" for a in spec.constructor if a.name in names(stage.expression))
    yield "t = ops.arange(_shape(query)[1], dtype=_INTEGER)"
    yield "s = t if value is None else ops.arange(_shape(value)[1], dtype=_INTEGER)"
    yield printer.comment(stage.clause)
    yield f"return {printer.operand(node, ATOM)}[None]"


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
    if _CAUSAL in spec.hook:
        yield f"if {_CAUSAL}:\n    {MASK} = _all_of([self._compute_causal_mask(query, value), {MASK}])"
    yield f"weights = self.{SOFTMAX}({_called(spec, functions[SCORES])}, {MASK})"
    yield f"output = {_called(spec, functions[APPLIED])}"
    yield "return output, weights"


def _asked(spec: Spec, when: Expression) -> str:
    """A guard of a path, over what the layer holds."""
    wish = {_WANTED: Name(f"self._{_WANTED}")} if _keeps_wish(spec) else {}
    return to_text(substitute(_without_folding(when), {**_held(spec), **wish}))


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
        yield f"return (*shape[:-1], {_size(spec, made[-1], {'E': 'shape[-1]'})})"
        return
    yield from _shapes(spec, tensors)
    same = [a.name for a in tensors if a.layouts[0].dims == made]
    yield f"return tuple({same[0]}_shape)" if same else f"return ({', '.join(_shape_size(spec, dim, tensors) for dim in made)})"


def _shape_size(spec: Spec, dim: str, tensors: list[Argument]) -> str:
    """A size of the output before the layer is built."""
    known = {dim: f"{a.name}_shape[{place}]" for a in reversed(tensors) for place, dim in enumerate(a.layouts[0].dims)}
    return known.get(dim) or _size(spec, dim, known)


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
            wide = f'(*spans["B"], {_size(spec, "N")}, *spans["T"], *spans["S"])'
            body = (
                f'spans = _spans("{axes.name}", {kept(spec, axes.name)}, {query}.shape, {value}.shape)\n'
                f"shape = {wide} if spans else ({sizes})\n"
                "return output, keras.KerasTensor(shape, dtype=self.compute_dtype)"
            )
        yield f"if {to_text(output.when)}:\n{indent(body)}"
    yield "return output"


def _spec_size(spec: Spec, dim: str, tensors: list[Argument]) -> str:
    if spec.teller(dim) is not None:
        return _size(spec, dim)
    first = next(a for a in tensors if dim in a.layouts[0].dims)
    return f"{first.name}.shape[{first.layouts[0].dims.index(dim)}]"


def _config(spec: Spec) -> Iterator[str]:
    yield "config = super().get_config()"
    for argument in (each for each in spec.constructor if each.name not in _SETTING):
        kind, own = _object_kind(argument), kept(spec, argument.name)
        yield f'config["{argument.name}"] = ' + (f"keras.{kind}.serialize({own})" if kind else own)
    yield "return config"


__all__ = ["keras_class", "layer_class"]
