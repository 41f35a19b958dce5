"""What an API answers to the questions on which attention functions and layers part. `attnspec differences` prints it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from attnspec.spec.expression import Expression, Name, Unary, fold, names, substitute, to_text
from attnspec.spec.layouts import layout_text, swapped
from attnspec.spec.model import Argument, Path, Spec, Stage

INPUTS = ("query", "key", "value")
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Answer:
    """`is_observed` where it is what the owner's implementation does, and no document says so."""

    text: str
    is_observed: bool = False


def answers(spec: Spec) -> Mapping[str, Answer]:
    """Every question's answer, by path where the paths of the API differ."""
    found = {question: Answer(ask(spec)) for question, ask in OF_THE_CALL.items()}
    for question, ask in OF_A_PATH.items():
        found[question] = _of_paths([(path.name, Answer(ask(spec, path))) for path in spec.paths])
    for policy in dict.fromkeys(name for path in spec.paths for name in path.policies):
        found[policy] = _of_paths([(path.name, _policy(path, policy)) for path in spec.paths])
    return found


def _of_paths(by_path: list[tuple[str, Answer]]) -> Answer:
    """One answer, or each path's own."""
    observed = any(answer.is_observed for _, answer in by_path)
    texts = {answer.text for _, answer in by_path}
    if len(texts) == 1:
        return Answer(texts.pop(), observed)
    return Answer("; ".join(f"{path}: {answer.text}" for path, answer in by_path), observed)


def _policy(path: Path, name: str) -> Answer:
    policy = path.policies[name]
    return Answer(policy.text, policy.source == "observed")


def _order(spec: Spec) -> str:
    """Where key and value are swapped nothing complains: their shapes are often the same."""
    return ", ".join(argument.name for argument in spec.tensor_arguments if argument.name in INPUTS)


def _layout(spec: Spec) -> str:
    argument = spec.argument("query")
    usual = " or ".join(map(layout_text, argument.layouts))
    if not argument.swapped_unless:
        return usual
    default = "" if spec.argument(argument.swapped_unless).default else " (the default)"
    return f"{layout_text(swapped(argument.layouts)[0])}{default}, with {argument.swapped_unless} {usual}"


def _paths(spec: Spec) -> str:
    """One path has no guard: there is no question then."""
    guards = [f"{path.name} where {to_text(path.when)}" if path.when else f"else {path.name}" for path in spec.paths]
    return ", ".join(guards) if len(guards) > 1 else "one"


def _returned_weights(spec: Spec) -> str:
    found = []
    for output in spec.outputs:
        tensor, _, clause = output.tensor.partition("@")
        if tensor.startswith("weight"):
            what = "mean over heads" if tensor == "weight_mean" else "each head's"
            found.append(what + (", before dropout" if clause else "") + _where(spec, output.when))
    return "; ".join(found) or NOTHING


def _where(spec: Spec, guard: Expression | None) -> str:
    """The guard, and the defaults of the flags in it."""
    if guard is None:
        return ""
    flags = [spec.argument(name) for name in sorted(names(guard))]
    defaults = [f"{flag.name}={flag.default}" for flag in flags if isinstance(flag.default, bool)]
    return f" where {to_text(guard)}" + (f" (default {', '.join(defaults)})" if defaults else "")


def _true_in_a_mask(spec: Spec, path: Path) -> str:
    """Masks whose elements say themselves who attends to whom."""
    sides: dict[str, list[str]] = {}
    for stage in _of_kind(path, "mask"):
        hides = isinstance(stage.expression, Unary)
        mask = stage.expression.operand if isinstance(stage.expression, Unary) else stage.expression
        if isinstance(mask, Name):
            sides.setdefault("is hidden" if hides else "takes part", []).append(mask.name)
    return "; ".join(f"{side} ({', '.join(found)})" for side, found in sides.items()) or NOTHING


def _numbers_in_a_mask(spec: Spec, path: Path) -> str:
    added = {name for stage in _of_kind(path, "modifier") for name in names(stage.expression)}
    masks = {name for stage in _of_kind(path, "mask") for name in names(stage.expression)}
    both = [argument for argument in spec.tensor_arguments if argument.name in masks and argument.dtype != "integer"]
    texts = dict.fromkeys(_numbers(argument, added) for argument in both)
    return "; ".join(texts) or NOTHING


def _numbers(mask: Argument, added: set[str]) -> str:
    if mask.name in added:
        return "added to the logits"
    return "not zero is True" if mask.dtype == "bool or number" else "no numbers"


def _causal(spec: Spec, path: Path) -> str:
    return next((to_text(fold(s.expression)) for s in _of_kind(path, "mask") if s.clause == "mask.causal"), NOTHING)


def _window(spec: Spec, path: Path) -> str:
    return next((to_text(fold(s.expression)) for s in _of_kind(path, "mask") if s.clause == "mask.window"), NOTHING)


def _scale(spec: Spec, path: Path) -> str:
    """Of the query or of the logits, and by what: an argument's default is written out."""
    found = []
    for stage in path.stages:
        if stage.clause.endswith("scale"):
            defaults = {a.name: a.unset for a in (*spec.constructor, *spec.arguments) if a.unset is not None}
            text = to_text(substitute(stage.expression, defaults))
            found.append(text + (f" where {to_text(stage.when)}" if stage.when else ""))
    return "; ".join(found) or NOTHING


def _dropout(spec: Spec, path: Path) -> str:
    return next((f"where {to_text(stage.when)}" for stage in _of_kind(path, "dropout") if stage.when), NOTHING)


def _of_kind(path: Path, kind: str) -> Iterator[Stage]:
    return (stage for stage in path.stages if stage.kind == kind)


OF_THE_CALL: Mapping[str, Callable[[Spec], str]] = {
    "order of the inputs": _order,
    "layout of query": _layout,
    "paths": _paths,
    "returned weights": _returned_weights,
}
OF_A_PATH: Mapping[str, Callable[[Spec, Path], str]] = {
    "True in a mask": _true_in_a_mask,
    "a number in a mask": _numbers_in_a_mask,
    "causal: query t attends to key s where": _causal,
    "window": _window,
    "scale": _scale,
    "dropout": _dropout,
}
