"""One R file: header, documentation, the function, and below it the helpers that it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.layer import size_names
from attnspec.codegen.lower import lower_spec
from attnspec.codegen.module import aliases, header, rules_of
from attnspec.codegen.printer import indent
from attnspec.codegen.prologue import lift_names
from attnspec.codegen.r import layer
from attnspec.codegen.r.layout import laid_out
from attnspec.codegen.r.lines import calling, literal, variable
from attnspec.codegen.r.manual import Manual, manual, of_argument, roxygen
from attnspec.codegen.r.printer import RPrinter
from attnspec.codegen.r.program import in_r
from attnspec.codegen.targets.r import R
from attnspec.codegen.unit_dims import without_unit_dims
from attnspec.codegen.verify import verify
from attnspec.spec.model import Argument, Spec

INIT = "# Initial weights by name: the sizes of the inputs, then the settings that decide on them."
HELPERS = "# -- helpers: argument checks, and what base R lacks " + "-" * 48


def module_text(spec: Spec) -> str:
    """The source of one implementation. Raises LoweringError."""
    spec = without_unit_dims(spec)
    functions = [f"{roxygen(page(spec))}\n{function_text(spec)}"]
    if spec.form == "layer":
        functions.append(f"{INIT}\n{layer.init_text(spec, _printer(spec))}")
    if layer.has_layer(spec):
        functions.append(f"{roxygen(layer.layer_page(spec, header(spec)))}\n{layer.layer_text(spec, _printer(spec))}")
    return "\n\n".join((header(spec), *functions, HELPERS, *helpers("\n".join(functions)))) + "\n"


def function_text(spec: Spec) -> str:
    """The public function, `<module name> <- function(...)`: all of them live in one namespace."""
    program = lower_spec(spec)
    verify(program, spec)
    signature = ", ".join(f"{name} = {default}" if default else name for name, default in parameters(spec))
    body = _printer(spec).function_body(in_r(spec, program))
    return laid_out(f"{spec.module_name} <- function({signature}) {{\n{indent(body)}\n}}")


def _printer(spec: Spec) -> RPrinter:
    return RPrinter(
        R,
        batched=False,
        sizes=aliases(spec),
        rules=rules_of(spec),
        layout_error=spec.layout_error,
        loose=frozenset(_loose(spec)),
        grid=spec.tensors["logit"],
        returns=tuple(dict.fromkeys(output.name for output in spec.outputs)),
        leading=any(layout.batched for argument in spec.tensor_arguments for layout in argument.layouts),
    )


def page(spec: Spec) -> Manual:
    """The documentation of the function, and of a layer's initial weights beside it."""
    own = manual(spec, parameters(spec), header(spec))
    if spec.form != "layer":
        return own
    known = {name for name, _ in own.arguments}
    more = [(name, _init_argument(spec, name)) for name, _ in layer.init_parameters(spec) if name not in known]
    signature = (f"{name} = {default}" if default else name for name, default in layer.init_parameters(spec))
    also = ((layer.init_name(spec), calling(layer.init_name(spec), *signature)),)
    return replace(own, arguments=(*own.arguments, *more), also=also)


def _init_argument(spec: Spec, name: str) -> str:
    if name in size_names(spec):
        return f"the size of the axis {name} of the inputs."
    return f"{of_argument(spec.argument(name))} One of glorot_uniform, zeros, ones, or a function of a shape."


def parameters(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Names and defaults in order: a layer's weights first, and its constructor's arguments last."""
    weights = [("params", "")] if spec.weights else []
    return (*weights, *(_parameter(a) for a in (*spec.arguments, *spec.constructor) if a.role not in ("object", "placement")))


def _parameter(argument: Argument) -> tuple[str, str]:
    return variable(argument.name), "" if argument.required else literal(argument.default)


def _loose(spec: Spec) -> Iterator[str]:
    """Tensors whose axes may be missing or 1."""
    for argument in spec.tensor_arguments:
        lacks = len({len(layout.dims) for layout in argument.layouts}) > 1 and argument.name not in lift_names(spec)
        if lacks or any(axis.or_one for layout in argument.layouts for axis in layout.axes):
            yield argument.name


@cache
def _support() -> dict[str, str]:
    """The functions of support/r.R by name, in order."""
    source = (files("attnspec.codegen.support") / "r.R").read_text(encoding="utf-8")
    definitions = re.split(r"\n+(?=\.\w+ <- )", source)[1:]
    return {text.partition(" <- ")[0]: text.rstrip() for text in definitions}


def helpers(code: str) -> list[str]:
    """The helpers that `code` needs, with what they need themselves."""
    known = _support()
    wanted: set[str] = set()
    queue = _called(code)
    while queue:
        name = queue.pop()
        if name not in known:
            raise LoweringError(f"r: there is no helper {name}")
        wanted.add(name)
        queue |= _called(known[name].partition(" <- ")[2]) - wanted
    return [text for name, text in known.items() if name in wanted]


def _called(code: str) -> set[str]:
    """Functions with a leading dot, in code without comments and strings."""
    bare = re.sub(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"', "", code)
    return set(re.findall(r"(?<![\w.])\.[a-z_]\w*(?=\()", bare))
