"""What a layer has in R beside its function: initial weights, and the constructor that users of the keras3 package know.

`layer_group_query_attention(object, ...)` and `layer_multi_head_attention(inputs, ...)` compose as layers do there: called on
arrays they are the layer's result, without them the layer itself, a function of such arrays. Weights are explicit: `params`, or
drawn at the first call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from attnspec.codegen.folding import axes_argument, several
from attnspec.codegen.layer import fans, size_names
from attnspec.codegen.printer import indent
from attnspec.codegen.prologue import axis_size, constructor_checks
from attnspec.codegen.r.layout import laid_out
from attnspec.codegen.r.lines import calling, literal, string, variable
from attnspec.codegen.r.manual import Manual, of_argument
from attnspec.codegen.r.printer import RPrinter
from attnspec.codegen.targets.r import R
from attnspec.spec.expression import Expression, names, substitute
from attnspec.spec.model import Argument, Spec, Weight

_OF_WEIGHTS = (
    "kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer", "activity_regularizer",
    "kernel_constraint", "bias_constraint",
)  # fmt: skip


@dataclass(frozen=True)
class Constructor:
    """A constructor of the R package keras3, as its documents have it: its first argument, and what it takes by name.

    The rest comes through `...`. An example has arguments by place, and by name.
    """

    first: str
    named: tuple[str, ...]
    example: tuple[str, str]


KERAS3 = {
    "keras.layers.GroupQueryAttention": Constructor(
        "object",
        ("head_dim", "num_query_heads", "num_key_value_heads", "dropout", "use_bias", *_OF_WEIGHTS),
        ("4, 4, 2", "head_dim = 4, num_query_heads = 4, num_key_value_heads = 2"),
    ),
    "keras.layers.MultiHeadAttention": Constructor(
        "inputs",
        ("num_heads", "key_dim", "value_dim", "dropout", "use_bias", "output_shape", "attention_axes", *_OF_WEIGHTS, "seed"),
        ("2, 4", "num_heads = 2, key_dim = 4"),
    ),
}
_EXAMPLE = """\
query <- array(rnorm(2 * 3 * 6), c(2, 3, 6))
value <- array(rnorm(2 * 5 * 6), c(2, 5, 6))
list(query, value) |> {0}({1}) |> str()
layer <- {0}({2})
identical(layer(list(query, value)), layer(list(query, value)))"""
_CHECKS = {"integer": ".integer", "seed": ".integer", "number": ".number", "flag": ".flag"}


def init_name(spec: Spec) -> str:
    """The function of initial weights."""
    return f"{spec.module_name}_init"


def init_parameters(spec: Spec) -> tuple[tuple[str, str], ...]:
    """The sizes that inputs tell, and what of the constructor's arguments decides on weights, with their defaults."""
    rules = RPrinter(R, batched=False)
    sizes = [(dim, rules.guard(spec.sizes[dim])[0] if dim in spec.sizes else "") for dim in size_names(spec)]
    guards = frozenset[str]().union(*(names(w.when) for w in spec.weights if w.when is not None))
    own = [a for a in spec.constructor if a.tells or a.name in guards or a.name in {w.chosen_by for w in spec.weights}]
    return (*sizes, *((a.name, "" if a.required else literal(a.default)) for a in own))


def init_text(spec: Spec, printer: RPrinter) -> str:
    """`<name>_init`: a list of weights by name, with the documented distributions."""
    lines: list[str] = []
    for a in (a for a in spec.constructor if a.tells):
        if a.unset is not None:
            lines.append(f"if (is.null({a.name})) {a.name} <- {printer.guard(a.unset)[0]}")
        if a.several:
            lines += [f"{a.axes_name} <- {a.name}", f"{a.name} <- prod({a.name})"]
    lines.append("params <- list()")
    for when, weights in groupby(spec.weights, key=lambda weight: weight.when):
        text = "\n".join(_initial(spec, weight, printer) for weight in weights)
        lines.append(text if when is None else f"if ({printer.guard(when)[0]}) {{\n{indent(text)}\n}}")
    return _function(init_name(spec), init_parameters(spec), [*lines, "return(params)"])


def _initial(spec: Spec, weight: Weight, printer: RPrinter) -> str:
    inner, outer = (printer.guard(fan)[0] for fan in _fans(spec, weight))
    lengths = [printer.guard(axis_size(spec, axis.dims))[0] for axis in weight.layout.axes]
    last = several(spec, weight.layout)
    if last is not None:
        lengths[-1] = last.axes_name
    shape = calling("c", *lengths) if len(lengths) > 1 else next(iter(lengths), "1")
    how = weight.chosen_by or string(weight.initializer)
    return f"params${weight.name} <- {calling('.initial', how, shape, inner, outer)}"


def _fans(spec: Spec, weight: Weight) -> tuple[Expression, Expression]:
    """Fan in and fan out over the arguments: as declared, or of the dims that are contracted and those that are made."""
    rules = [substitute(fan, spec.told) for fan in weight.fans] or [axis_size(spec, tuple(dims)) for dims in fans(spec, weight)]
    fan_in, fan_out = rules
    return fan_in, fan_out


def _function(name: str, parameters: Sequence[tuple[str, str]], body: Sequence[str]) -> str:
    signature = ", ".join(f"{parameter} = {default}" if default else parameter for parameter, default in parameters)
    return laid_out(f"{name} <- function({signature}) {{\n" + indent("\n".join(body)) + "\n}")


# -- the constructor ----------------------------------------------------------------------------------------------


def layer_name(spec: Spec) -> str:
    """The constructor: `layer_group_query_attention`."""
    return f"layer_{spec.function_name}"


def has_layer(spec: Spec) -> bool:
    """Whether R users know the layer, from the package keras3."""
    return spec.name in KERAS3


def layer_parameters(spec: Spec) -> tuple[tuple[str, str], ...]:
    """The documented ones, in their order."""
    documented = (spec.argument(name) for name in KERAS3[spec.name].named)
    return (
        (KERAS3[spec.name].first, ""),
        *((a.name, "" if a.required else literal(a.default)) for a in documented),
        ("...", ""),
    )


def layer_text(spec: Spec, printer: RPrinter) -> str:
    """The constructor, its checks, and the layer that it returns."""
    settings = [a for a in spec.constructor if a.role != "object"]
    inputs = [a for a in spec.arguments if a.role == "tensor" and a.feeds]
    first = KERAS3[spec.name].first
    checks = [printer.statement(check) for check in constructor_checks(spec)]
    body = [
        f"more <- .named(list(...), {literal(tuple(_more(spec)))})",
        *_taken(spec),
        *(f".untrained({string(a.name)}, {a.name})" for a in spec.constructor if _is_for_training(spec, a)),
        *checks,
        f"settings <- {calling('list', *(f'{a.name} = {_setting(a)}' for a in settings))}",
        'weights <- more[["params"]]',
        f"layer <- function({first}, ...) {{",
        indent("\n".join(_call(spec, inputs))),
        "}",
        f"asked <- more[names(more) %in% {literal(tuple(_call_time(spec)))}]",
        f"if (missing({first})) return(layer)",
        f"return(do.call(layer, c(list({first}), asked)))",
    ]
    return _function(layer_name(spec), layer_parameters(spec), body)


def _setting(argument: Argument) -> str:
    """The variable that holds a setting; checks are about the product of several sizes."""
    return argument.axes_name if argument.several else argument.name


def _more(spec: Spec) -> Iterator[str]:
    """What `...` may hold."""
    yield from (a.name for a in spec.constructor if a.name not in KERAS3[spec.name].named)
    yield "params"
    yield from _call_time(spec)


def _call_time(spec: Spec) -> Iterator[str]:
    """The arguments of the call that are no inputs."""
    yield from (argument.name for argument in spec.arguments if not argument.feeds)


def _is_for_training(spec: Spec, argument: Argument) -> bool:
    """Regularisers and constraints: they act on weights that are trained."""
    return argument.role == "object" and argument.name not in {weight.chosen_by for weight in spec.weights}


def _taken(spec: Spec) -> Iterator[str]:
    """Every setting by its name, checked, those of `...` too."""
    for a in spec.constructor:
        given = a.name if a.name in KERAS3[spec.name].named else f"more[[{string(a.name)}]]"
        if a.role == "object":
            continue
        if a.role == "flag" and a.name not in KERAS3[spec.name].named:
            yield f"{a.name} <- .optional_flag({string(a.name)}, {given})"
        elif a.optional:
            if given != a.name:
                yield f"{a.name} <- {given}"
            if a.role == "axes":
                continue  # what they name depends on the inputs
            if a.several:
                yield f"{a.axes_name} <- {a.name}"
                yield f"if (!is.null({a.name})) {a.name} <- prod(.whole({string(a.name)}, {a.name}))"
                continue
            yield f"if (!is.null({a.name})) {a.name} <- {_CHECKS[a.role]}({string(a.name)}, {a.name})"
        else:
            yield f"{a.name} <- {_CHECKS[a.role]}({string(a.name)}, {given})"


def _call(spec: Spec, inputs: Sequence[Argument]) -> Iterator[str]:
    least = sum(argument.required for argument in inputs)
    first = KERAS3[spec.name].first
    yield f"inputs <- .inputs({string(first)}, {first}, {literal(tuple(a.name for a in inputs))}, {least})"
    sizes = []
    for dim in size_names(spec):
        owner = next(a for a in inputs if dim in a.layouts[0].dims)
        layout = owner.layouts[0].dims
        stands_in = f", {string(next(iter(names(owner.unset))))}" if owner.unset is not None else ""
        rank = "NULL" if axes_argument(spec) else len(layout)
        sizes.append(f"{dim} = .axis_size(inputs, {rank}, {layout.index(dim) + 1}, {string(owner.name)}{stands_in})")
    names_ = (name for name, _ in init_parameters(spec) if name not in size_names(spec))
    own = (f"{name} = {_setting(spec.argument(name))}" for name in names_)
    yield "if (is.null(weights)) {"
    yield f"    weights <<- {calling(init_name(spec), *sizes, *own)}"
    yield "}"
    yield f"do.call({spec.module_name}, c(list(params = weights), inputs, list(...), settings))"


# -- the page -----------------------------------------------------------------------------------------------------


def layer_page(spec: Spec, header: str) -> Manual:
    """The documentation of the constructor."""
    inputs = [a.name for a in spec.arguments if a.feeds]
    required = ", ".join(a.name for a in spec.arguments if a.feeds and a.required)
    known = KERAS3[spec.name]
    later = ", ".join(a.name for a in spec.constructor if a.name not in known.named)
    parameters = layer_parameters(spec)
    named = [(variable(a), of_argument(spec.argument(a))) for a in known.named]
    usage = calling(layer_name(spec), *(f"{name} = {default}" if default else name for name, default in parameters))
    return Manual(
        name=layer_name(spec),
        title=f"{spec.class_name} as a Layer in Base R",
        description=spec.summary,
        usage=usage,
        arguments=(
            (known.first, f"a list of arrays ({required}) or ({', '.join(inputs)}), or one array for all of them. Without it "
             "the layer itself is returned: a function of such a list and of the arguments of the call."),
            *named,
            ("...", f"{later}; params, a list of weights as {init_name(spec)}() makes it, otherwise drawn at the first call; "
             f"and the arguments of the call: {', '.join(_call_time(spec))}."),
        ),
        value=f"What {spec.module_name}() returns, or the layer.",
        details=(
            "The signature is that of the R package keras3; sizes may be doubles. Regularisers and constraints act in training "
            "and must stay NULL. An initialiser is glorot_uniform, zeros, ones, or a function of a shape.",
        ),
        source=f"{spec.documented.url} ({spec.documented.version})",
        example=_EXAMPLE.format(layer_name(spec), *known.example),
        header=header,
    )  # fmt: skip
