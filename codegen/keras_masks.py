"""The masks of a Keras layer: those of a call as one, each mask of positions by a hook that a subclass may replace."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.index_notation import align, lower
from attnspec.codegen.keras_class import Method
from attnspec.codegen.keras_hooks import MASK
from attnspec.codegen.keras_settings import class_name, guarded_by, kept
from attnspec.codegen.lower import canonical_scope
from attnspec.codegen.printer import ATOM, Printer, Target
from attnspec.codegen.program import Dims
from attnspec.spec.expression import Name, fold, names, to_text
from attnspec.spec.model import Spec, Stage

_MASKED: Dims = ("B", "T", "S")
_POSITIONS = {"mask.causal": "_compute_causal_mask", "mask.window": "_compute_sliding_window_mask"}
"""Masks of positions, by the hook that makes them."""
CAUSAL = "use_causal_mask"


def joined(spec: Spec) -> Iterator[str]:
    """The masks of a call as one; a causal mask alone is left to the layer's own attention, which needs no (T, S) for it."""
    masks = _mask_names(spec)
    made = f"{MASK} = self._compute_{MASK}(query, value, {', '.join(f'{name}={name}' for name in (*masks, CAUSAL))})"
    if CAUSAL not in spec.hook:
        yield made
        return
    windows = [kept(spec, a.name) for a in spec.constructor if a.name in _asked_by(spec)]
    yield f"own = type(self)._compute_attention is {class_name(spec)}._compute_attention"
    yield f"others = ({', '.join((*masks, *windows))})"
    yield f'alone = {{"{CAUSAL}": True}} if own and {CAUSAL} and all(each is None for each in others) else {{}}'
    yield f"if not alone:\n    {made}"


def _mask_names(spec: Spec) -> list[str]:
    return [a.name for a in spec.arguments if a.role == "tensor" and "bool" in a.dtype]


def _asked_by(spec: Spec) -> frozenset[str]:
    """The names in the guards of masks."""
    return frozenset[str]().union(*(names(stage.when) for stage in _mask_stages(spec) if stage.when is not None))


def mask_parameters(spec: Spec) -> str:
    """The masks of a call as parameters of the hook that joins them."""
    tensors = [f"{name}: Any = None" for name in _mask_names(spec)]
    return ", ".join((*tensors, f"{CAUSAL}: bool = False"))


def joint_mask(spec: Spec, target: Target) -> Iterator[str]:
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
        yield f"if {guarded_by(spec, stage.when, None)}:\n    masks.append({text})"
    yield "return _all_of(masks)"


def _mask_stages(spec: Spec) -> list[Stage]:
    return [stage for stage in spec.paths[-1].stages if stage.kind == "mask"]


def _rules(spec: Spec) -> dict[str, str]:
    return {stage.clause: to_text(fold(stage.expression)) for stage in _mask_stages(spec)}


def position_masks(spec: Spec, target: Target) -> Iterator[Method]:
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
    counted = str(target.ops["arange"])
    yield f"t = {counted.format('_shape(query)[1]')}"
    yield f"s = t if value is None else {counted.format('_shape(value)[1]')}"
    yield printer.comment(stage.clause)
    yield f"return {printer.operand(node, ATOM)}[None]"


__all__ = ["CAUSAL", "joined", "joint_mask", "mask_parameters", "position_masks"]
