"""The page that says what kernels refuse, and why: read off the generated files themselves, so that it says what they raise."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from attnspec.codegen.kernels.coverage import reasons
from attnspec.codegen.kernels.language import Language
from attnspec.spec.model import Spec

_HEAD = """# What the kernels refuse

Written by `attnspec generate`; do not edit. A call that a kernel cannot do raises NotImplementedError with one of these texts,
`{}` being what the call has there. `attnspec generate --target NAME` refuses a spec that has no kernel with the first reason.
"""


def page(specs: Iterable[Spec], language: Language, module_text: Callable[[Spec], str]) -> str:
    """What every kernel refuses, what some do, and which specs have none."""
    every = list(specs)
    why = {spec.name: list(reasons(spec, language)) for spec in every}
    raised = {spec.name: list(refusals(module_text(spec))) for spec in every if not why[spec.name]}
    common = [text for text in next(iter(raised.values()), []) if all(text in own for own in raised.values())]
    lines = [_HEAD.replace("NAME", language.name), "## Every kernel", "", *(f"* {_code(text)}" for text in common)]
    lines += ["", "## Some kernels", "", "| spec | what it also refuses |", "|---|---|"]
    for name, own in raised.items():
        lines.append(f"| `{name}` | {'; '.join(_code(text) for text in own if text not in common) or 'nothing'} |")
    lines += ["", "## Without a kernel", "", "| spec | why |", "|---|---|"]
    lines += [f"| `{name}` | {'; '.join(found)} |" for name, found in why.items() if found]
    return "\n".join(lines) + "\n"


def refusals(text: str) -> Iterator[str]:
    """The texts of every NotImplementedError that a file raises."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name("NotImplementedError"), args=[message])):
                yield _shown(message)


def _shown(message: ast.expr) -> str:
    """A text as its reader sees it, with the expression of what is filled in."""
    match message:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(parts):
            return "".join(map(_shown, parts))
        case ast.FormattedValue(value):
            return f"{{{ast.unparse(value)}}}"
    raise TypeError(f"no text: {ast.unparse(message)}")


def _code(text: str) -> str:
    """A text that may hold backticks, as code."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
