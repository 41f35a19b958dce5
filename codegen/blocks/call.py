"""A call to plan blocks for: sizes and values as a user types them, the masks that then hold, and operands for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from attnspec.spec.expression import Binary, Call, Expression, Name, names, to_text, walk
from attnspec.spec.layouts import paired_dims
from attnspec.spec.model import Argument, Default, Spec, Stage
from attnspec.spec.resolve import EvaluationError, Facts, ShapeMismatch, facts_of, holds, resolve
from attnspec.spec.suggestions import did_you_mean

SIZES = {"B": 1, "T": 4096, "S": 4096, "N": 1, "K": 1, "H": 64, "V": 64, "P": 1024, "C": 4096, "U": 9}
LARGEST, LARGEST_OPERAND = 2**20, 2**28
_DOCUMENTS, _DENSITY = 8, 0.1


class CallError(ValueError):
    """What was typed makes no call of the spec; the message is for the user."""


@dataclass(frozen=True)
class Planned:
    """The masks of one call, everything they name, and in words what was made up for their operands."""

    masks: tuple[Stage, ...]
    scope: Mapping[str, Any]
    operands: Mapping[str, str]


def planned(spec: Spec, sizes: Mapping[str, int], given: Mapping[str, str], arrays: Path | None = None) -> Planned:
    """The call of `spec` with such sizes, and arguments by name. Raises CallError."""
    known = {a.name: a for a in (*spec.constructor, *spec.arguments, *spec.tensor_arguments)}
    for name in given.keys() - known.keys():
        raise CallError(f"{spec.name} has no argument `{name}`.{did_you_mean(name, known)}")
    loaded = {} if arrays is None else _loaded(arrays, spec)
    for argument in (*spec.constructor, *spec.arguments):
        if argument.required and argument.role not in ("tensor", "tensors") and argument.name not in given:
            raise CallError(f"{spec.name} needs a value of `{argument.name}`: --set {argument.name}=...")
    values = {name: _value(known[name], text) for name, text in given.items() if known[name].role != "tensor"}
    wanted = [a for a in spec.tensor_arguments if not a.optional or a.name in given or a.name in loaded]
    lengths = {**SIZES, **_blocks_of_a_layout(spec, {**SIZES, **sizes}, values), **sizes}
    facts = _facts(spec, values, wanted, lengths, loaded)
    for dim in sizes.keys() & spec.sizes.keys():
        if facts.sizes.get(dim) != sizes[dim]:
            raise CallError(
                f"{spec.name} has {dim} = {to_text(spec.sizes[dim])}, which is {facts.sizes.get(dim)}, not {sizes[dim]}"
            )
    stages = tuple(stage for stage in resolve(spec, facts).stages if stage.kind == "mask")
    read = frozenset().union(*(names(stage.expression) for stage in stages))
    scope: dict[str, Any] = {**facts.scope}
    told: dict[str, str] = {}
    for argument in wanted:
        name = argument.feeds or argument.name
        if name in read:
            shape = tuple(facts.sizes[dim] for dim in spec.tensors[name])
            if argument.name in loaded:
                array, told[name] = loaded[argument.name], "from the file"
            else:
                array, told[name] = _made_up(spec, argument, name, shape, given.get(argument.name), facts)
            scope[name] = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    return Planned(stages, scope, told)


def _facts(
    spec: Spec,
    values: Mapping[str, Default],
    tensors: list[Argument],
    lengths: Mapping[str, int],
    loaded: Mapping[str, NDArray[Any]],
) -> Facts:
    """The facts of the call, if it is one."""
    dtypes = {a.name: {"integer": "int64", "floating": "float32"}.get(a.dtype, "bool") for a in tensors}
    shapes = {a.name: _shape(a, lengths) for a in tensors}
    shapes |= {name: array.shape for name, array in loaded.items() if name in shapes}
    shapes |= {weight.name: tuple(lengths.get(dim, 1) for dim in weight.layout.dims) for weight in spec.weights}
    try:
        facts = facts_of(spec, values, shapes, dtypes)
        for precondition in spec.preconditions:
            if holds(precondition.when, facts) and not holds(precondition.requires, facts):
                told = (f"{name} = {facts.scope[name]}" for name in sorted(names(precondition.requires) & facts.scope.keys()))
                raise CallError(f"{spec.name} needs {to_text(precondition.requires)}, got {', '.join(told)}")
    except (ShapeMismatch, EvaluationError) as error:
        raise CallError(f"{spec.name}: {error}") from None
    return facts


def _shape(argument: Argument, lengths: Mapping[str, int]) -> tuple[int, ...]:
    """Its first layout, at the chosen sizes; what is not chosen is 1."""
    layout = argument.layouts[0]
    batch = (lengths["B"],) if layout.batched else ()
    return (*batch, *(int(np.prod([lengths.get(dim, 1) for dim in axis.dims])) for axis in layout.axes))


def _blocks_of_a_layout(spec: Spec, lengths: Mapping[str, int], values: Mapping[str, Default]) -> dict[str, int]:
    """As many entries as `x[t // width]` looks up."""
    found = {}
    for node in (n for path in spec.paths for stage in path.stages for n in walk(stage.expression)):
        match node:
            case Binary("//", Name("t" | "s" as letter), Name(width)) if width not in lengths:
                size = values.get(width, next((a.default for a in spec.arguments if a.name == width), None))
                if isinstance(size, int) and size > 0:
                    found["X" if letter == "t" else "Y"] = max(1, -(-lengths[letter.upper()] // size))
    return found


def _value(argument: Argument, text: str) -> Default:
    """A Python value as it is typed: `true`, `255`, `255,0`."""
    try:
        value: Default = _READERS[argument.role](text)
    except (KeyError, ValueError):
        wanted = {"flag": "true or false", "integer": "a whole number", "sizes": "a whole number, or two as 255,0"}
        raise CallError(f"`{argument.name}` must be {wanted.get(argument.role, 'a number')}, got {text!r}") from None
    return value


def _sizes(text: str) -> Default:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) > 2:
        raise ValueError(text)
    return numbers if len(numbers) == 2 else numbers[0]


_READERS: dict[str, Any] = {
    "flag": lambda text: {"true": True, "false": False}[text.lower()],
    "integer": int, "number": float, "sizes": _sizes, "choice": str,
}  # fmt: skip


def _loaded(path: Path, spec: Spec) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, which must be tensors of the spec."""
    known = {a.name: a for a in spec.tensor_arguments}
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except OSError as error:
        raise CallError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, BadZipFile):
        raise CallError(f"{path} is no .npz file of arrays") from None
    for name, array in found.items():
        if name not in known:
            raise CallError(f"{path}: {spec.name} has no tensor `{name}`.{did_you_mean(name, known)}")
        _check_array(spec, known[name], array)
    return found


def _check_array(spec: Spec, argument: Argument, array: NDArray[Any]) -> None:
    """A mask's tensor of the right kind, whose axes are in the operator's order."""
    kinds = "b" if "bool" in argument.dtype else "iu" if argument.dtype == "integer" else "f"
    if array.dtype.kind not in kinds:
        raise CallError(f"`{argument.name}` must be {argument.dtype}, got {array.dtype}")
    canonical = spec.tensors[argument.feeds or argument.name]
    layouts = [layout.dims for layout in argument.layouts if len(layout.axes) == array.ndim and not layout.batched]
    if layouts and paired_dims(layouts[0], canonical) and layouts[0] != canonical[-array.ndim :]:
        raise CallError(f"`{argument.name}` of layout {' '.join(layouts[0])} cannot be read here, only {' '.join(canonical)}")


# -- operands that nobody gave ------------------------------------------------------------------------------------


def _made_up(
    spec: Spec, argument: Argument, name: str, shape: tuple[int, ...], text: str | None, facts: Facts
) -> tuple[NDArray[Any], str]:
    """An operand of a mask by a stated rule, and the rule: lengths, equal documents, or random entries."""
    dims = spec.tensors[name]
    if np.prod(shape, dtype=np.float64) > LARGEST_OPERAND:
        raise CallError(f"`{argument.name}` of shape {shape} is too large to make up; choose smaller sizes")
    try:
        if "bool" in argument.dtype:
            density = float(text) if text else _DENSITY
            return np.random.default_rng(0).random(shape) < density, f"{density:g} of its entries are true, at random"
        whole = next(iter(_divided(spec, name)), None)
        if whole is not None:
            count = max(1, shape[-1] - 1)
            return np.arange(shape[-1]) * facts.sizes[whole] // count, f"{count} documents of equal length"
        limit = next(iter(_limits(spec, name)), None)
        if limit is not None:
            length = int(text) if text else facts.sizes[limit]
            return np.full(shape, length), f"{length} in every row"
        documents = int(text) if text else _DOCUMENTS
        ids = np.arange(shape[-1]) * documents // max(1, shape[-1])
        return np.broadcast_to(ids, shape), f"{documents} documents of equal length"
    except ValueError:
        raise CallError(f"`{argument.name}` ({', '.join(dims)}) must be given as a number, got {text!r}") from None


def _limits(spec: Spec, name: str) -> Iterator[str]:
    """The dim whose index is compared with a length: S of `s < lengths[b]`."""
    rules: Iterator[Expression] = (stage.expression for path in spec.paths for stage in path.stages)
    for node in (node for rule in rules for node in walk(rule)):
        match node:
            case Binary("<", Name("t" | "s" as letter), right) if name in names(right):
                yield letter.upper()


def _divided(spec: Spec, name: str) -> Iterator[str]:
    """The dim whose indices a tensor divides into intervals: T of `interval(bounds, t)`."""
    for node in (node for path in spec.paths for stage in path.stages for node in walk(stage.expression)):
        match node:
            case Call("interval", (Name(bounds), Name("t" | "s" as letter))) if bounds == name:
                yield letter.upper()
