"""Which specs have a kernel, and why others have none yet."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.kernels.language import Language, is_table
from attnspec.codegen.kernels.operands import LOOKED_UP, OF_PAIRS, OF_TABLE, dims_of, is_looked_up, operands_of, sizes_of_tables
from attnspec.codegen.prologue import canonical_dims
from attnspec.spec.expression import Access, Name, Number, names
from attnspec.spec.model import Argument, Output, Path, Spec, Stage

SINK = "softmax.sink"
_CLAUSES = frozenset({"score.dot", "softmax.plain", "combine.weighted"})
_GUARDED = frozenset({"modifier", "mask", "rows", "dropout"})
_UNIFORM = ("uniform", "replace", "-0.7 * max(float32)")
LAYOUTS = {"query": "BTNH", "key": "BSKH", "value": "BSKV"}


def require(spec: Spec, language: Language) -> None:
    """LoweringError, with the first reason, where a spec has no kernel."""
    for reason in reasons(spec, language):
        raise LoweringError(f"{language.name}: {spec.name}: {reason}")


def reasons(spec: Spec, language: Language) -> Iterator[str]:
    """Why a spec has no kernel; nothing where it has one."""
    if spec.form != "function":
        yield "a layer has no kernel of its own"
        return
    if len(spec.paths) != 1:
        yield f"it has {len(spec.paths)} paths, and kernels are compiled for one"
        return
    for number, output in enumerate(spec.outputs):
        if not (_is_log_sum(output) if number else output.tensor == "output" and output.when is None):
            yield f"`{output.name}` is returned, and kernels make the attended values and the log-sum-exp's constants"
    for argument in spec.tensor_arguments:
        yield from _unknown_tensor(spec, argument, language)
    for stage in spec.paths[0].stages:
        yield from _unknown_stage(spec, stage)
    yield from _unknown_policies(spec.paths[0])
    yield from language.lacks(spec)


def _units(spec: Spec) -> set[str]:
    """The axes that tensors may lack: one row is a batch."""
    return {dim for dim in ("B",) if spec.sizes.get(dim) == Number(1)}


def _is_log_sum(output: Output) -> bool:
    return output.tensor == "logsumexp" and output.stop_gradient and output.when is not None


def _unknown_tensor(spec: Spec, argument: Argument, language: Language) -> Iterator[str]:
    name, units = argument.feeds or argument.name, _units(spec)
    longest = argument.layouts[0]
    single = all(len(axis.dims) == 1 for layout in argument.layouts for axis in layout.axes)
    if name in LAYOUTS:
        wanted = tuple(LAYOUTS[name])
        has_all = {*canonical_dims(longest, wanted)} == {*wanted} - units
        if argument.name != name or not single or argument.swapped_unless or not has_all:
            yield f"`{argument.name}` has to be ({', '.join(wanted)}), in any order"
    elif is_table(argument):
        if not language.table_entry or len(longest.dims) not in OF_TABLE or not single:
            yield f"`{argument.name}` is a tensor that no kernel reads yet"
    elif is_looked_up(argument):
        if dims_of(spec, argument) not in LOOKED_UP:
            yield f"`{argument.name}` is a tensor that no kernel reads yet"
    else:
        ends = all(layout.dims == longest.dims[-len(layout.dims) :] for layout in argument.layouts)
        if not ends or dims_of(spec, argument) not in OF_PAIRS:
            yield f"`{argument.name}` is a tensor that no kernel reads yet"


def _unknown_stage(spec: Spec, stage: Stage) -> Iterator[str]:
    scalars = {name for a in spec.arguments if a.role != "tensor" for name in (a.names or (a.name,))}
    known = {"b", "n", "t", "s", "T", "S", *scalars, *operands_of(spec), *sizes_of_tables(spec)}
    if stage.when is not None and stage.kind not in _GUARDED:
        yield f"`{stage.clause}` depends on an argument"
    elif stage.kind in ("modifier", "mask", "rows"):
        strange = names(stage.expression) - known - {"logit"}
        if strange:
            yield f"`{stage.clause}` reads `{min(strange)}`"
    elif stage.kind == "dropout":
        if not isinstance(stage.expression, Name) or spec.paths[0].policies["empty_row"].value == "uniform":
            yield f"`{stage.clause}` is compiled where its rate is an argument and empty rows are zero"
    elif stage.clause == SINK:
        match stage.expression:
            case Access(tensor, (Name("n"),)) if tensor in operands_of(spec):
                pass
            case _:
                yield f"`{stage.clause}` is compiled for a logit per head"
    elif stage.clause not in _CLAUSES:
        yield f"`{stage.clause}` is not compiled"


def _unknown_policies(path: Path) -> Iterator[str]:
    rule, fill = path.policies["empty_row"].value, path.policies["mask.fill"]
    if (rule, fill.detail) != ("zero", "-inf") and (rule, fill.value, fill.detail) != _UNIFORM:
        yield f"a row that sees nothing is {rule}, where a hidden logit is {fill.value}d by {fill.detail}"
    if path.policies["weights.dtype"].value != "input":
        yield "weights have the dtype of the values"
    if "float32" not in {path.policies[name].value.removeprefix("at least ") for name in ("logits.dtype", "softmax.dtype")}:
        yield "logits and softmax are in float32"
