"""One R file: header, documentation, the function, and below it the helpers that it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.lower import lower_spec
from attnspec.codegen.module import aliases, header, rules_of
from attnspec.codegen.printer import indent
from attnspec.codegen.r.layout import laid_out
from attnspec.codegen.r.lines import literal, variable
from attnspec.codegen.r.manual import Manual, manual, roxygen
from attnspec.codegen.r.printer import RPrinter
from attnspec.codegen.r.program import in_r
from attnspec.codegen.targets.r import R
from attnspec.codegen.verify import verify
from attnspec.spec.model import Argument, Spec

HELPERS = "# -- helpers: argument checks, and what base R lacks " + "-" * 48


def module_text(spec: Spec) -> str:
    """The source of one implementation. Raises LoweringError."""
    function = function_text(spec)
    return "\n\n".join((header(spec), f"{roxygen(page(spec))}\n{function}", HELPERS, *helpers(function))) + "\n"


def function_text(spec: Spec) -> str:
    """The public function, `<module name> <- function(...)`: all of them live in one namespace."""
    program = lower_spec(spec)
    verify(program, spec)
    printer = RPrinter(
        R,
        batched=False,
        sizes=aliases(spec),
        rules=rules_of(spec),
        layout_error=spec.layout_error,
        loose=frozenset(_loose(spec)),
        grid=spec.tensors["logit"],
        leading=program.batched,
    )
    signature = ", ".join(f"{name} = {default}" if default else name for name, default in parameters(spec))
    body = printer.function_body(in_r(spec, program))
    return laid_out(f"{spec.module_name} <- function({signature}) {{\n{indent(body)}\n}}")


def page(spec: Spec) -> Manual:
    """The documentation of the function."""
    return manual(spec, parameters(spec), header(spec))


def parameters(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Names and defaults in order: a layer's weights first, and its constructor's arguments last."""
    weights = [("params", "")] if spec.weights else []
    return (*weights, *(_parameter(a) for a in (*spec.arguments, *spec.constructor) if a.role != "object"))


def _parameter(argument: Argument) -> tuple[str, str]:
    return variable(argument.name), "" if argument.required else literal(argument.default)


def _loose(spec: Spec) -> Iterator[str]:
    """Tensors whose axes may be missing or 1."""
    for argument in spec.tensor_arguments:
        if any(axis.or_one for layout in argument.layouts for axis in layout.axes):
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
