"""What a function's page says, once; as roxygen comments above the function and as an .Rd file."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.r.layout import laid_out
from attnspec.codegen.r.lines import calling, literal, variable
from attnspec.spec.expression import to_text
from attnspec.spec.model import Argument, Layout, Spec

WIDTH = 96
SIZES = {"B": 2, "T": 3, "S": 5, "N": 2, "K": 2, "H": 4, "V": 4, "E": 6}
"""The sizes of examples; any other dim has size 4."""
_SCALARS = {
    "number": "a number", "integer": "a whole number", "flag": "TRUE or FALSE", "sizes": "a whole number or two of them",
    "tensors": "a list of arrays", "training": "TRUE or FALSE", "seed": "a whole number",
    "axes": "a whole number, or several",
}  # fmt: skip
_KINDS = {
    "floating": "numeric",
    "integer": "whole numbers",
    "bool": "logical",
    "bool or floating": "logical or double",
    "bool or number": "logical or numeric",
}


@dataclass(frozen=True, slots=True)
class Manual:
    """The parts of a page, plain text. `usage` is the function's signature with its defaults.

    `also` are further functions that it documents, with theirs.
    """

    name: str
    title: str
    description: str
    usage: str
    arguments: tuple[tuple[str, str], ...]
    value: str
    details: tuple[str, ...]
    source: str
    example: str
    header: str
    also: tuple[tuple[str, str], ...] = ()


def manual(spec: Spec, parameters: tuple[tuple[str, str], ...], header: str) -> Manual:
    """The page of a spec's function. `parameters` are its names with their defaults, empty where it has none."""
    usage = calling(spec.module_name, *(f"{name} = {default}" if default else name for name, default in parameters))
    source = spec.documented.url and f"{spec.documented.url} ({spec.documented.version})"
    return Manual(
        name=spec.module_name,
        title=f"{spec.name} in Base R" if spec.family == "api" else f"Attention: {spec.name}",
        description=spec.summary,
        usage=usage,
        arguments=tuple(_arguments(spec)),
        value=_value(spec),
        details=tuple(_details(spec)),
        source=source or spec.file,
        example=_example(spec),
        header=header,
    )


def _arguments(spec: Spec) -> Iterator[tuple[str, str]]:
    if spec.weights:
        weights = (f"{w.name}, {shapes((w.layout,))}{_when(w.when)}" for w in spec.weights)
        yield "params", f"a named list of weights: {'; '.join(weights)}."
    for argument in (a for a in (*spec.arguments, *spec.constructor) if a.role not in ("object", "placement")):
        yield variable(argument.name), of_argument(argument)


def _when(guard: object) -> str:
    return f" (where {to_text(guard)})" if guard is not None else ""  # type: ignore[arg-type]


def of_argument(argument: Argument) -> str:
    """What an argument is, in words."""
    if argument.role == "tensors":
        members = "; ".join(f"{element.name}, {_kind(element)}: {element.doc}" for element in argument.elements)
        return f"a list of arrays: {members}."
    inert = f" (inert: {argument.inert})" if argument.inert else ""
    default = " NULL means that it is absent." if argument.role == "tensor" and argument.optional else ""
    return f"{': '.join(filter(None, (_kind(argument), _in_r_words(argument.doc))))}{inert}.{default}"


def _in_r_words(text: str) -> str:
    """A spec's words in R's: NULL, TRUE, FALSE."""
    return re.sub(r"\b(None|True|False)\b", lambda word: literal({"None": None}.get(word[0], word[0] == "True")), text)


def _kind(argument: Argument) -> str:
    if argument.role == "tensor":
        swap = f", the first two axes in the other order unless {argument.swapped_unless}" if argument.swapped_unless else ""
        return f"{_KINDS[argument.dtype]}, {shapes(argument.layouts)}{swap}"
    if argument.role == "choice":
        return f"one of {', '.join(map(literal, argument.choices))}"
    return _SCALARS.get("axes" if argument.several else argument.role, "")


def shapes(layouts: tuple[Layout, ...]) -> str:
    """`(B, T, N, H) or (T, N, H)`."""
    return " or ".join(f"({', '.join(_axes(layout))})" for layout in layouts)


def _axes(layout: Layout) -> Iterator[str]:
    """The axes in words: `B`, `N|1`, `B * N`, `1`."""
    yield from ["..."] * layout.batched
    for axis in layout.axes:
        yield (" * ".join(axis.dims) or "1") + "|1" * axis.or_one


def _value(spec: Spec) -> str:
    told = [f"{o.name}, {shapes(o.layouts)}{f': {o.doc}' if o.doc else ''}" for o in spec.outputs]
    if len(told) == 1:
        return f"An array: {told[0]}."
    if any(output.otherwise for output in spec.outputs):
        return f"A named list: {_in_r_words('; '.join(told))}."
    always = [text for output, text in zip(spec.outputs, told, strict=True) if output.when is None]
    more = [f"{text} (where {to_text(o.when)})" for o, text in zip(spec.outputs, told, strict=True) if o.when is not None]
    if len(always) == 1:
        return f"An array: {always[0]}. With more than that, a named list of it and {'; '.join(more)}."
    return f"A named list: {'; '.join([*always, *more])}."


def _details(spec: Spec) -> Iterator[str]:
    yield (
        "Axes are in the documented order, and X|1 stands for an axis of size X or 1. Everything is computed in double "
        "precision, whatever precision the API documents. A whole double does for an integer; NA is refused."
    )
    yield f"Errors have the documented class, as tryCatch knows it. {spec.layout_error}: a shape or a type does not fit."
    for precondition in spec.preconditions:
        where = f" where {_in_r_words(to_text(precondition.when))}" if precondition.when is not None else ""
        requires = _in_r_words(to_text(precondition.requires))
        yield f"{precondition.raises}: unless {requires}{where} ({precondition.clause})."


def _example(spec: Spec) -> str:
    """A call on random arrays: what is required, and nothing else. No example for what needs weights."""
    if spec.form == "layer" or spec.projects:
        return ""
    lines, given = [], []
    for argument in spec.arguments:
        if argument.required:
            given.append(argument.name)
            tensors = (a for a in argument.elements or (argument,) if a.role == "tensor" and not a.optional)
            lines += [_made(a, in_order=a.name in vocabulary_of(spec).ordered) for a in tensors]
            if argument.role == "tensors":
                members = (element.name for element in argument.elements if not element.optional)
                lines.append(f"{argument.name} <- {calling('list', *members)}")
            elif argument.role != "tensor":
                lines.append(f"{argument.name} <- {literal(argument.examples[0] if argument.examples else 1)}")
    result = calling(spec.module_name, *given)
    return "\n".join((*lines, f"output <- {result}", "str(output)"))


def _made(argument: Argument, in_order: bool) -> str:
    sizes = [SIZES.get(dim, 4) for axis in argument.layouts[0].axes for dim in axis.dims]
    sizes = [SIZES["B"], *sizes] if argument.layouts[0].batched else sizes
    count = " * ".join(map(str, sizes))
    integers = f"seq_len({count}) - 1" if in_order else f"sample(0:2, {count}, TRUE)"
    drawn = {"bool": f"runif({count}) < 0.7", "integer": integers}.get(argument.dtype, f"rnorm({count})")
    return f"{argument.name} <- array({drawn}, {calling('c', *map(str, sizes))})"


def roxygen(page: Manual) -> str:
    """Comments above the function, in the form that R users read and write."""
    parts = [page.title, "", page.description, ""]
    parts += [f"@param {name} {text}" for name, text in page.arguments]
    parts += [f"@return {page.value}", f"@details {' '.join(page.details)}", f"@source {page.source}", "@export"]
    lines = [line for part in parts for line in textwrap.wrap(part, WIDTH, subsequent_indent="  ") or [""]]
    return "\n".join(f"#' {line}".rstrip() for line in lines)


def rd(page: Manual) -> str:
    """The .Rd file."""
    items = "\n".join(f"  \\item{{{name}}}{{{_text(text)}}}" for name, text in page.arguments)
    usage = "\n\n".join(laid_out(usage) for usage in (page.usage, *(usage for _, usage in page.also)))
    sections = [
        "\n".join(f"% {line.removeprefix('# ')}" for line in page.header.split("\n")),
        f"\\name{{{page.name}}}",
        *(f"\\alias{{{name}}}" for name, _ in ((page.name, page.usage), *page.also)),
        f"\\title{{{_text(page.title)}}}",
        f"\\description{{\n{_text(page.description)}\n}}",
        f"\\usage{{\n{_code(usage)}\n}}",
        f"\\arguments{{\n{items}\n}}",
        f"\\value{{\n{_text(page.value)}\n}}",
        "\\details{\n" + "\n\n".join(map(_text, page.details)) + "\n}",
        f"\\source{{\n{_text(page.source)}\n}}",
    ]
    if page.example:
        sections.append(f"\\examples{{\n{_code(page.example)}\n}}")
    return "\n".join(sections) + "\n"


def _text(text: str) -> str:
    """Text for Rd, with `quoted` words as code, folded."""
    escaped = re.sub(r"`([^`]+)`", r"\\code{\1}", _code(text).replace("{", "\\{").replace("}", "\\}"))
    return "\n".join(textwrap.wrap(escaped, WIDTH, break_long_words=False, break_on_hyphens=False))


def _code(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%")
