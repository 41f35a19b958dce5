"""Which specs have a kernel, and why others have none yet."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.triton.operands import OPERANDS, operands_of
from attnspec.spec.expression import names
from attnspec.spec.model import Path, Spec

_CLAUSES = frozenset({"score.dot", "softmax.plain", "combine.weighted"})
_LAYOUTS = {"query": ("B", "T", "N", "H"), "key": ("B", "S", "K", "H"), "value": ("B", "S", "K", "V")}


def require(spec: Spec) -> None:
    """LoweringError, with the first reason, where a spec has no kernel."""
    for reason in reasons(spec):
        raise LoweringError(f"triton: {spec.name}: {reason}")


def reasons(spec: Spec) -> Iterator[str]:
    """Why a spec has no kernel; nothing where it has one."""
    if spec.form != "function":
        yield "a layer has no kernel of its own"
        return
    if len(spec.paths) != 1 or len(spec.outputs) != 1 or spec.outputs[0].tensor != "output":
        yield "one path and one output are compiled, the attended values"
        return
    for argument in spec.tensor_arguments:
        name = argument.feeds or argument.name
        if name not in _LAYOUTS:
            if argument.dtype != "integer" or tuple(spec.tensors[name]) not in OPERANDS or argument.optional:
                yield f"`{argument.name}` is a tensor that no kernel reads yet"
        elif [layout.dims for layout in argument.layouts] != [_LAYOUTS[name]] or argument.layouts[0].batched:
            yield f"`{argument.name}` has to be ({', '.join(_LAYOUTS[name])})"
    yield from _unknown_stages(spec, spec.paths[0])


def _unknown_stages(spec: Spec, path: Path) -> Iterator[str]:
    scalars = {"t", "s", "T", "S", *(argument.name for argument in spec.arguments if argument.role != "tensor")}
    known = {"modifier": {"logit", *scalars}, "mask": {"b", *operands_of(spec), *scalars}}
    for stage in path.stages:
        if stage.when is not None:
            yield f"`{stage.clause}` depends on an argument"
        elif stage.kind in ("modifier", "mask"):
            strange = names(stage.expression) - known[stage.kind]
            if strange:
                yield f"`{stage.clause}` reads `{min(strange)}`"
        elif stage.clause not in _CLAUSES:
            yield f"`{stage.clause}` is not compiled"
    if path.policies["mask.fill"].detail != "-inf" or path.policies["empty_row"].value != "zero":
        yield "hidden keys leave a trace where a row sees none: every block would have to be visited"
    if path.policies["weights.dtype"].value != "input":
        yield "weights have the dtype of the values"
    if "float32" not in {path.policies[name].value.removeprefix("at least ") for name in ("logits.dtype", "softmax.dtype")}:
        yield "logits and softmax are in float32"
