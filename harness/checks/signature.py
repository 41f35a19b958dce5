"""The subject's signature is the documented one: names, order, kinds and defaults.

A builtin such as torch's has no signature that Python can see; the first line of its docstring is what it documents of
it, and says nothing about kinds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnspec.harness.checks.failure import Failure
from attnspec.harness.subjects import CLASSES, Subject
from attnspec.spec.model import Argument, Spec

KINDS = {
    "POSITIONAL_OR_KEYWORD": "positional",
    "POSITIONAL_ONLY": "positional-only",
    "KEYWORD_ONLY": "keyword-only",
    "VAR_POSITIONAL": "*",
    "VAR_KEYWORD": "**",
}
REQUIRED = "required"
NOT_OFFERED = "not offered by the subject"  # what makes an argument inert that a user's function lacks
WEIGHTS = "params"  # a layer that is no class is a function of its weights first


@dataclass(frozen=True, slots=True)
class Parameter:
    """`kind` is None where it cannot be known; `default` is the default's repr, or REQUIRED."""

    name: str
    kind: str | None
    default: str


def documented(spec: Spec, lane: str) -> list[Parameter]:
    """The parameters that a subject of `spec` has in that lane. What it does not offer need not be there."""
    arguments = [_of(argument, argument.kind) for argument in spec.arguments if argument.inert != NOT_OFFERED]
    own = [argument for argument in spec.constructor if argument.role != "placement" or lane == spec.owner]
    if lane == "r":  # where every argument may come by position
        arguments = [replace(argument, kind="positional") for argument in arguments]
    if spec.form == "function":
        return arguments
    if lane in CLASSES:
        return [_of(argument, argument.kind) for argument in own]
    weights = Parameter(WEIGHTS, "positional", REQUIRED)
    constructor = (argument for argument in own if argument.role not in ("object", "placement"))
    kind = "positional" if lane == "r" else "keyword-only"
    return [weights, *arguments, *(_of(argument, kind) for argument in constructor)]


def _of(argument: Argument, kind: str) -> Parameter:
    return Parameter(argument.name, kind, REQUIRED if argument.required else repr(argument.default))


def found(answer: Mapping[str, Any]) -> list[Parameter]:
    """The parameters in a lane's answer; ValueError where there is neither a signature nor a documented one."""
    return _read(answer["parameters"]) if "parameters" in answer else from_docstring(answer["doc"])


def _read(parameters: Sequence[Sequence[Any]]) -> list[Parameter]:
    return [Parameter(name, KINDS[kind], default or REQUIRED) for name, kind, default in parameters]


def from_docstring(doc: str) -> list[Parameter]:
    """The parameters in `name(a, b=None, *, c=1) -> Tensor`, with which a builtin's docstring begins."""
    opening = doc.find("(")
    head = doc[opening : _closing(doc, opening) + 1] if opening >= 0 else ""
    try:
        tree = ast.parse(f"def f{head}: ...")
    except SyntaxError:
        raise ValueError("it has no signature, and its docstring does not begin with one") from None
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    positional = definition.args.args
    defaults = [None] * (len(positional) - len(definition.args.defaults)) + list[Any](definition.args.defaults)
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += zip(definition.args.kwonlyargs, definition.args.kw_defaults, strict=True)
    return [Parameter(name.arg, None, REQUIRED if value is None else ast.unparse(value)) for name, value in pairs]


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis at `opening` closes; the end of the text where it never does."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return len(text)


def check(spec: Spec, subject: Subject, answer: Mapping[str, Any]) -> Iterator[Failure]:
    """One failure per parameter that is not as documented. `answer` is the lane's (see lanes/server.py)."""
    if "error" in answer:
        yield Failure(subject.name, "signature", "import", "cannot be imported", answer["error"], spec.name)
        return
    if "adapter" in answer:  # it says how the function is called
        return
    try:
        parameters = found(answer)
    except ValueError as error:
        yield Failure(subject.name, "signature", "signature", "no signature", str(error), spec.name)
        return
    open_ended = spec.form == "layer" and subject.lane in CLASSES  # the sizes of its weights follow
    wrong = list(differences(documented(spec, subject.lane), parameters, more=open_ended))
    if "call" in answer and spec.form == "layer":
        modes = subject.lane == "torch"  # its modules know theirs
        offered = (argument for argument in spec.arguments if not (argument.mode and modes))
        wrong += differences([_of(argument, argument.kind) for argument in offered], _read(answer["call"]))
    for name, seen, message in wrong:
        yield Failure(subject.name, "signature", name, seen, message, spec.name)


def differences(want: Sequence[Parameter], got: Sequence[Parameter], *, more: bool = False) -> Iterator[tuple[str, str, str]]:
    """Parameter, what is wrong in a word, and the message. `more` allows parameters after the documented ones."""
    by_name = {parameter.name: parameter for parameter in got}
    swallows = any(parameter.kind == "**" for parameter in got)
    for parameter in want:
        if parameter.name in by_name:
            yield from _difference(parameter, by_name[parameter.name])
        elif not swallows:
            yield parameter.name, "missing", f"`{parameter.name}` is missing"
    documented_names = [parameter.name for parameter in want]
    for parameter in got:
        if parameter.name not in documented_names and not more and parameter.kind not in ("*", "**"):
            yield parameter.name, "undocumented", f"`{parameter.name}` is not documented"
    yield from _disorder([name for name in documented_names if name in by_name], list(by_name), want)


def _difference(want: Parameter, got: Parameter) -> Iterator[tuple[str, str, str]]:
    if got.kind is not None and got.kind != want.kind:
        yield want.name, f"is {got.kind}", f"`{want.name}` is {got.kind}, documented {want.kind}"
    if got.default != want.default:
        yield want.name, "other default", f"`{want.name}`: default {got.default}, documented {want.default}"


def _disorder(expected: list[str], actual: list[str], want: Sequence[Parameter]) -> Iterator[tuple[str, str, str]]:
    """Only what can be passed by position has an order."""
    positional = [p.name for p in want if p.kind == "positional" and p.name in expected]
    order = [name for name in actual if name in positional]
    for here, there in zip(positional, order, strict=True):
        if here != there:
            yield here, "other order", f"`{there}` comes where `{here}` is documented"
            return
