"""What a layer adds to its function: initial weights, and for torch an `nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from attnspec.codegen.folding import several
from attnspec.codegen.printer import Printer, Target, indent
from attnspec.codegen.prologue import axis_size, constructor_checks, is_grouped, several_sizes
from attnspec.spec.expression import Access, Expression, Name, Sum, names, substitute, to_text, walk
from attnspec.spec.model import Argument, Axis, Spec, Weight

_INIT_HEAD = {
    "numpy": ("rng: np.random.Generator", "dtype: type = np.float32", "np.ndarray"),
    "jax": ("key: jax.Array", "dtype: jnp.dtype = jnp.float32", "jax.Array"),
}
_CONSTANT = {
    "numpy": "np.{0}({1}, dtype)",
    "jax": "jnp.{0}({1}, dtype)",
    "torch": "nn.init.{0}_(self.{2})",
    "tensorflow": "tf.{0}({1}, dtype)",
    "keras": '"{0}"',
}
_DRAWN = {
    "numpy": "_{0}(rng, {1}, {3}, {4}).astype(dtype)",
    "jax": "_{0}(next(keys), {1}, {3}, {4}).astype(dtype)",
    "torch": "_{0}_(self.{2}, {3}, {4})",
    "tensorflow": "_{0}({1}, {3}, {4}, dtype)",
    "keras": "_{0}({3}, {4})",
}
_RESET = "_reset_parameters"
"""What a spec's `methods` name where the owner's layer has it in place of `reset_parameters`."""
_DRAWS = ("glorot_uniform", "glorot_normal", "linear_uniform")

_SEEDED = {
    "torch": "None if {0} is None else torch.Generator().manual_seed({0})",
    "tensorflow": "None if {0} is None else tf.random.Generator.from_seed({0})",
    "keras": "keras.random.SeedGenerator({0})",
}


def init_text(spec: Spec, target: Target, parameters: list[str]) -> str:
    """`<name>_init`: weights by name, with the documented distributions, for numpy and jax."""
    source, dtype, array = _INIT_HEAD[target.name]
    sizes = f"; {', '.join(size_names(spec))} are the sizes of their dims" if size_names(spec) else ""
    lines = [f'"""Initial weights of `{spec.function_name}`{sizes}."""']
    lines += construction(spec, target)
    if target.name == "jax" and any(weight.initializer in _DRAWS for weight in spec.weights):
        lines.append(f"keys = iter(jax.random.split(key, {len(spec.weights)}))")
    lines.append(f"params: dict[str, {array}] = {{}}")
    lines += each_weight(spec, target, lambda w: f'params["{w.name}"] = {initial(spec, w, target.name)}')
    lines.append("return params")
    named = (parameter for parameter in parameters if parameter != "*")
    signature = ", ".join((source, "*", *named, *size_parameters(spec), dtype))
    return f"def {spec.function_name}_init({signature}) -> dict[str, {array}]:\n{indent(chr(10).join(lines))}"


def module_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The `nn.Module` of a layer: weights as parameters under their documented names."""
    made_on = ("device: torch.device | None = None", "dtype: torch.dtype | None = None")
    placed = any(argument.role == "placement" for argument in spec.constructor)
    more = (*size_parameters(spec), *(() if placed else made_on))
    signature = ", ".join(("self", *parameters, *by_name(parameters, more)))
    kept = [*construction(spec, target), *kept_lines(spec, target), *_attributes(spec, target), *_linears(spec, target)]
    own = [weight for weight in spec.weights if not _linear(spec, weight)]
    made = each_weight(spec, target, lambda w: _parameter(spec, w), own, otherwise=lambda w: _absent(spec, w))
    reset = each_weight(spec, target, lambda w: _reset(spec, w), _redrawn(spec), prefix="self.")
    reset_name = _RESET if _RESET in spec.methods else _RESET.lstrip("_")
    passed = (_passed(a) if a.kind == "positional" else f"{a.name}={_passed(a)}" for a in spec.arguments)
    named = ", ".join((*passed, *own_arguments(spec)))
    return "\n".join(
        (
            f"class {spec.class_name}(nn.Module):",
            indent(docstring),
            "",
            indent(f"def __init__({signature}) -> None:"),
            indent(indent("\n".join(("super().__init__()", *kept, *made, f"self.{reset_name}()")))),
            "",
            indent(f"def {reset_name}(self) -> None:"),
            indent(indent("\n".join(('"""Draw the documented initial weights."""', *reset)))),
            "",
            indent(f"def forward({', '.join(('self', *call))}) -> Any:"),
            indent(indent(f"return _apply({_named_weights(spec)}, {named})")),
            *(line for method in spec.methods if method != _RESET and spec.owner == target.name for line in _method(method)),
        )
    )


def by_name(parameters: list[str], more: tuple[str, ...]) -> tuple[str, ...]:
    """Further parameters, which are given by name alone."""
    return more if "*" in parameters or not more else ("*", *more)


def _parameter(spec: Spec, weight: Weight) -> str:
    return f"self.{spec.state_key(weight)} = nn.Parameter(torch.empty({shape(spec, weight)}, device=device, dtype=dtype))"


def _absent(spec: Spec, weight: Weight) -> str:
    """A weight that is not there can be asked for all the same."""
    module, _, name = f"self.{spec.state_key(weight)}".rpartition(".")
    return f'{module}.register_parameter("{name}", None)'


def _linear(spec: Spec, weight: Weight) -> str:
    """The `nn.Linear` that the owner keeps a weight in, one level down."""
    return spec.state_key(weight).rpartition(".")[0]


def _linears(spec: Spec, target: Target) -> Iterator[str]:
    """The layers in which the owner keeps weights: of the kind that its attention has, which quantisation leaves alone."""
    for module, group in groupby(spec.weights, key=lambda weight: _linear(spec, weight)):
        if module:
            weight, *biases = group
            outer, inner = shape(spec, weight).strip("()").split(", ")
            bias = "".join(Printer(target, batched=False).guard(each.when)[0] for each in biases if each.when) or bool(biases)
            placed = "device=device, dtype=dtype"
            yield f"self.{module} = NonDynamicallyQuantizableLinear({inner}, {outer}, bias={bias}, {placed})"


def _redrawn(spec: Spec) -> list[Weight]:
    """The weights that a reset draws: a linear layer has drawn its own when it was made."""
    return [weight for weight in spec.weights if not (_linear(spec, weight) and weight.initializer == "linear_uniform")]


def _attributes(spec: Spec, target: Target) -> Iterator[str]:
    """What the owner's other code reads off its layer."""
    printer = Printer(target, batched=False)
    if spec.owner == target.name:
        yield from (f"self.{name} = {printer.guard(rule)[0]}" for name, rule in spec.attributes.items())


def _named_weights(spec: Spec) -> str:
    """The weights by the names that the function knows them by: attributes, which a parametrisation may have replaced."""
    each = (f'"{weight.name}": self.{spec.state_key(weight)}' for weight in spec.weights)
    return f"{{{', '.join(each)}}}"


def _method(name: str) -> Iterator[str]:
    """A method of the owner's layer, which other code of the owner calls."""
    yield from ("", indent(f"def {name}(self, *arguments: Any, **named: Any) -> Any:"))
    yield indent(indent(f"return _{name}(self, *arguments, **named)"))


def tensorflow_class(spec: Spec, target: Target, docstring: str, parameters: list[str], call: list[str]) -> str:
    """The `tf.Module` of a layer: weights as variables under their documented names."""
    made_with = ("dtype: tf.DType = tf.float32", "name: str | None = None")
    signature = ", ".join(("self", *parameters, *by_name(parameters, (*size_parameters(spec), *made_with))))
    kept = [*construction(spec, target), *kept_lines(spec, target)]
    made = each_weight(spec, target, lambda w: f'self.{w.name} = tf.Variable({initial(spec, w, target.name)}, name="{w.name}")')
    held = each_weight(spec, target, lambda w: f'params["{w.name}"] = self.{w.name}', prefix="self.")
    passed = (a.name if a.kind == "positional" else f"{a.name}={a.name}" for a in spec.arguments)
    named = ", ".join((*passed, *own_arguments(spec)))
    return "\n".join(
        (
            f"class {spec.class_name}(tf.Module):",
            indent(docstring),
            "",
            indent(f"def __init__({signature}) -> None:"),
            indent(indent("\n".join(("super().__init__(name=name)", *kept, *made)))),
            "",
            indent(f"@{target.decorator}\ndef __call__({', '.join(('self', *call))}) -> Any:"),
            indent(indent("\n".join(("params: dict[str, tf.Variable] = {}", *held, f"return _apply(params, {named})")))),
        )
    )


def size_names(spec: Spec) -> list[str]:
    """Dims of the weights that no argument of the constructor tells, in order."""
    dims = dict.fromkeys(dim for weight in spec.weights for dim in weight.layout.dims)
    return [dim for dim in dims if dim not in spec.told]


def size_parameters(spec: Spec) -> list[str]:
    """The sizes as parameters; one that follows from others may be left out."""
    return sorted(
        (f"{n}: int | None = None" if n in spec.sizes else f"{n}: int" for n in size_names(spec)), key=lambda p: "=" in p
    )


def construction(spec: Spec, target: Target) -> Iterator[str]:
    """What a constructor checks, and the sizes that follow from others."""
    own = [f"{a.name}=({a.name}, {a.default!r})" for a in spec.constructor if a.role == "object"]
    if own:
        yield f"_default_only({', '.join(own)})"
    for argument in spec.constructor:
        if argument.several and argument.unset is not None:
            yield several_sizes(argument, to_text(argument.unset))
            yield f"{argument.name} = _product({argument.axes_name})"
        elif argument.tells and argument.unset is not None:
            yield f"{argument.name} = {to_text(argument.unset)} if {argument.name} is None else {argument.name}"
    printer = Printer(target, batched=False)
    for statement in constructor_checks(spec):
        yield printer.statement(statement)
    for dim in size_names(spec):
        if dim in spec.sizes:
            yield f"{dim} = {printer.guard(spec.sizes[dim])[0]} if {dim} is None else {dim}"


def kept_lines(spec: Spec, target: Target) -> Iterator[str]:
    """The constructor's arguments, and what dropout draws from: a seed starts it, and every call goes on with it."""
    for argument in (argument for argument in spec.constructor if argument.role != "placement"):
        yield f"self.{argument.name} = {argument.axes_name if argument.several else argument.name}"
        if argument.role == "seed":
            yield f"self._generator = {_SEEDED[target.name].format(argument.name)}"


def own_arguments(spec: Spec) -> Iterator[str]:
    """What a layer hands on to its function of what it was constructed with."""
    for argument in spec.constructor:
        if argument.role not in ("object", "placement"):
            yield f"{argument.name}=self.{'_generator' if argument.role == 'seed' else argument.name}"


def _passed(argument: Argument) -> str:
    """An argument as forward hands it on: the module's own mode where nobody said whether it is training."""
    if argument.mode:
        return "self.training"
    return f"self.training if {argument.name} is None else {argument.name}" if argument.role == "training" else argument.name


def fans(spec: Spec, weight: Weight) -> tuple[list[str], list[str]]:
    """The weight's contracted and its remaining dims, whose products glorot calls fan in and fan out."""
    contracted = _contracted(spec, weight.name)
    inner = [dim for dim in weight.layout.dims if dim.lower() in contracted]
    outer = [dim for dim in weight.layout.dims if dim.lower() not in contracted]
    return inner, outer


def _contracted(spec: Spec, name: str) -> set[str]:
    """Indices that are summed where the weight is read."""
    rules: Iterator[Expression] = (stage.expression for path in spec.paths for stage in path.stages)
    sums = [e for rule in rules for e in walk(rule) if isinstance(e, Sum)]
    return {s.index for s in sums if any(e == Name(name) or (isinstance(e, Access) and e.tensor == name) for e in walk(s.body))}


def shape(spec: Spec, weight: Weight) -> str:
    """The weight's shape, over the arguments that tell its sizes."""
    sizes = [_axis_size(spec, axis) for axis in weight.layout.axes]
    last = several(spec, weight.layout)
    if last is not None:
        sizes[-1] = f"*{last.axes_name}"
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def size_of(spec: Spec, dim: str) -> str:
    """A size over the arguments that tell it."""
    return to_text(spec.told[dim]) if dim in spec.told else dim


def _axis_size(spec: Spec, axis: Axis) -> str:
    return to_text(axis_size(spec, axis.dims))


def initial(spec: Spec, weight: Weight, target: str) -> str:
    """What draws the weight's initial value, or makes what draws it."""
    inner, outer = fans(spec, weight)
    if target != "torch":
        inner, outer = ([_axis_size(spec, Axis(tuple(dims)))] for dims in (inner, outer))
    fan_in, fan_out = (" * ".join(sizes) or "1" for sizes in (inner, outer))
    if weight.fans or (target == "torch" and is_grouped(weight.layout)):
        fan_in, fan_out = _grouped_fans(spec, weight, "self." if target == "torch" else "")
    key = spec.state_key(weight) if target == "torch" else weight.name
    template = _DRAWN if weight.initializer in _DRAWS else _CONSTANT
    return template[target].format(weight.initializer, shape(spec, weight), key, fan_in, fan_out)


def _grouped_fans(spec: Spec, weight: Weight, prefix: str) -> tuple[str, str]:
    """The fans over the constructor's arguments: as declared, or of the dims that are contracted and those that are made."""
    kept = {argument.name: Name(prefix + argument.name) for argument in spec.constructor}
    rules = [substitute(fan, spec.told) for fan in weight.fans] or [axis_size(spec, tuple(dims)) for dims in fans(spec, weight)]
    fan_in, fan_out = (to_text(substitute(rule, kept)) for rule in rules)
    return fan_in, fan_out


def _reset(spec: Spec, weight: Weight) -> str:
    """One weight drawn again; its fans are read off its own shape, or told."""
    line = initial(spec, weight, "torch")
    read = frozenset[str]().union(*map(names, weight.fans)) & {*size_names(spec)}
    if weight.initializer not in _DRAWS or is_grouped(weight.layout) or (weight.fans and not read):
        return line
    dims = weight.layout.dims
    last = f"\n{dims[-1]} = _product({dims[-1]})" if several(spec, weight.layout) else ""
    starred = (*dims[:-1], f"*{dims[-1]}") if last else dims
    return f"{', '.join(starred)}{',' if len(dims) == 1 else ''} = self.{weight.name}.shape{last}\n{line}"


def each_weight(
    spec: Spec,
    target: Target,
    line: Callable[[Weight], str],
    weights: Iterable[Weight] | None = None,
    prefix: str = "",
    otherwise: Callable[[Weight], str] | None = None,
) -> Iterator[str]:
    """A line for every weight, under the guard of those that exist only sometimes; `prefix` is where its names are kept."""
    kept = {argument.name: Name(prefix + argument.name) for argument in spec.constructor}
    for when, members in groupby(spec.weights if weights is None else weights, key=lambda weight: weight.when):
        group = list(members)
        text = "\n".join(map(line, group))
        guard = "" if when is None else Printer(target, batched=False).guard(substitute(when, kept))[0]
        absent = "\n".join(map(otherwise, group)) if otherwise else ""
        yield (f"if {guard}:\n{indent(text)}" + (f"\nelse:\n{indent(absent)}" if absent else "")) if guard else text
