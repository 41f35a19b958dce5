"""What a Keras layer keeps of its constructor's arguments, and how its methods read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from attnspec.codegen.printer import Printer, Target
from attnspec.codegen.program import Check
from attnspec.codegen.prologue import constructor_checks, is_late
from attnspec.spec.expression import Binary, Call, Expression, IsNone, Name, Unary, names, substitute, to_text
from attnspec.spec.model import Argument, Spec

NAMED = {"E": "feature_dim"}
"""Sizes that no argument tells, by the attribute of the layer that holds them."""
_SETTING = {"flash_attention": "flash_attention or keras.config.is_flash_attention_enabled()"}
"""Arguments over which a setting of Keras has its say: the layer keeps what comes of both, and no configuration has it."""
WANTED = "return_attention_scores"


def class_name(spec: Spec) -> str:
    """What the owner calls the class: checkpoints of models hold it."""
    return spec.defined_as or spec.class_name


def kept(spec: Spec, name: str) -> str:
    """Where the layer keeps an argument of its constructor: a seed is always there for all to see."""
    is_private = spec.properties or spec.owner == "tf_keras"
    hidden = name in _SETTING or (is_private and spec.argument(name).role != "seed")
    return f"self._{name}" if hidden else f"self.{name}"


def held(spec: Spec) -> dict[str, Expression]:
    """The constructor's arguments as the layer holds them; of axes, which it has once it is built, their number."""
    own = {argument.name: kept(spec, argument.name) for argument in spec.constructor}
    return {a.name: Name(f"len({own[a.name]})" if a.role == "axes" else own[a.name]) for a in spec.constructor}


def guarded_by(spec: Spec, when: Expression | None, given: Expression | None) -> str:
    """A guard over the constructor's arguments, which the layer holds; what `given` has asked already is left out."""
    assert when is not None
    match when:
        case Binary("and", left, right) if given in (left, right):
            when = right if left == given else left
    return to_text(substitute(when, held(spec)))


def constructor(spec: Spec, target: Target) -> Iterator[str]:
    """The body of `__init__`: the arguments are checked, then kept."""
    yield "super().__init__(**kwargs)"
    yield "self.supports_masking = True"
    for argument in spec.constructor:
        if argument.name in _SETTING:
            yield f"{argument.name} = {_SETTING[argument.name]}"
        if argument.several:
            yield f"{argument.axes_name} = _as_tuple({argument.name})"
            yield f"{argument.name} = None if {argument.name} is None else _product({argument.axes_name})"
    printer = Printer(target, batched=False)
    yield from (printer.statement(replace(_strict(spec, check), numbers=())) for check in constructor_checks(spec))
    for argument in spec.constructor:
        kind, value = _object_kind(argument), argument.name
        if argument.several or argument.role == "axes":
            value = argument.axes_name if argument.several else f"_as_tuple({argument.name})"
        elif argument.tells and argument.unset is not None and not is_late(spec, argument):
            value = f"{to_text(argument.unset)} if {value} is None else {value}"
        yield f"{kept(spec, argument.name)} = {f'{target.name}.{kind}.get({value})' if kind else value}"
    yield from (f"self.{name} = {printer.guard(rule)[0]}" for name, rule in spec.attributes.items())
    if keeps_wish(spec):
        yield f"self._{WANTED} = False"


def keeps_wish(spec: Spec) -> bool:
    """Whether the layer has to remember that weights are wanted, for its hook is not told."""
    return len(spec.paths) > 1 and not is_settled(spec) and WANTED not in spec.hook


def is_settled(spec: Spec) -> bool:
    """Whether the constructor alone decides on the path, all of which then take the same steps."""
    when = spec.paths[0].when
    return when is not None and names(when) <= {argument.name for argument in spec.constructor}


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


def size_text(spec: Spec, dim: str, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """A size that the layer knows; one that is not told may be that of another dim."""
    teller = spec.teller(dim)
    if teller is None:
        return known.get(dim) or f"self.{NAMED[dim]}"
    own = kept(spec, teller.name)
    if not is_late(spec, teller):
        return own
    assert isinstance(teller.unset, Name)
    other = size_text(spec, teller.unset.name, known)
    return f"*(({other},) if {own} is None else {own})" if teller.several else f"{other} if {own} is None else {own}"


def configured(spec: Spec, target: Target) -> Iterator[str]:
    """The body of `get_config`, up to what it returns."""
    yield "config = super().get_config()"
    for argument in (each for each in spec.constructor if each.name not in _SETTING):
        kind, own = _object_kind(argument), kept(spec, argument.name)
        yield f'config["{argument.name}"] = ' + (f"{target.name}.{kind}.serialize({own})" if kind else own)


__all__ = [
    "NAMED",
    "WANTED",
    "class_name",
    "configured",
    "constructor",
    "guarded_by",
    "held",
    "is_settled",
    "keeps_wish",
    "kept",
    "size_text",
]
