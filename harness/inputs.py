"""A user's saved tensors as a case: an .npz whose entries are named after the API's arguments, other settings beside it."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.facts import facts
from attnspec.harness.lanes.call import COTANGENT
from attnspec.harness.lanes.messages import Array
from attnspec.spec.binding import ShapeMismatch
from attnspec.spec.model import Argument, Spec
from attnspec.spec.resolve import EvaluationError, holds, resolve
from attnspec.spec.resolve import evaluate as evaluated
from attnspec.spec.suggestions import did_you_mean

DTYPES = ("float16", "float32", "float64")  # that NumPy can save


class InputsError(ValueError):
    """Saved tensors that are no call of the API; the message names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """One call on saved arrays, and the options that ask for it. Cotangents that the file lacks are those of seed 0."""

    file: str
    options: str
    case: Case
    given: Mapping[str, Array]


def read(file: Path, settings: Sequence[str], spec: Spec) -> Inputs:
    """The call that a file and settings (`name=value`) describe. Raises InputsError."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            found = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputsError(f"{file}: expected an .npz file with one array for each argument: {error}") from None
    try:
        configuration = _configuration(spec, found, dict(map(_setting, settings)))
        cotangents = {name: array for name, array in found.items() if name.startswith(COTANGENT)}
        options = shlex.join(["--inputs", str(file), *(word for each in settings for word in ("--set", each))])
        return Inputs(str(file), options, Case(configuration, 0), _given(spec, configuration, found, cotangents))
    except InputsError as error:
        raise InputsError(f"{file}: {error}") from None


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputsError(f"--set: expected name=value, got {text!r}")
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        read = value
    return name, tuple(read) if isinstance(read, list) else read


def _configuration(spec: Spec, found: Mapping[str, Array], settings: Mapping[str, Any]) -> Configuration:
    tensors = {each.name: each for each in spec.tensor_arguments}
    weights = [weight.name for weight in spec.weights]
    values = {each.name: each for each in (*spec.constructor, *spec.arguments) if not each.role.startswith("tensor")}
    outputs = [f"{COTANGENT}{output.name}" for output in spec.outputs]
    for name in found:
        _check_known(spec, name, [*tensors, *weights, *values, *outputs])
    for name in settings:
        _check_known(spec, name, [*values])
    for argument in (each for each in tensors.values() if each.required and not each.optional and each.name not in found):
        raise InputsError(f"`{argument.name}` is missing; there are {', '.join(f'`{name}`' for name in found)}")
    dtype = _dtype(found, [name for name in found if name in weights or getattr(tensors.get(name), "dtype", "") == "floating"])
    plans = {name: _plan(tensors[name], found[name], dtype) for name in tensors if name in found}
    plans |= {name: TensorPlan(found[name].shape, dtype) for name in weights if name in found}
    chosen = {name: _plain(found[name]) for name in values if name in found} | dict(settings)
    return _checked(spec, Configuration(spec.name, dtype, (), tuple(chosen.items()), tuple(plans.items())))


def _check_known(spec: Spec, name: str, known: list[str]) -> None:
    if name not in known:
        raise InputsError(f"`{name}` is no argument of {spec.name} that may be given here.{did_you_mean(name, known)}")


def _dtype(found: Mapping[str, Array], floating: list[str]) -> str:
    """The dtype that all floating tensors share."""
    kinds = {name: str(found[name].dtype) for name in floating}
    for name, kind in kinds.items():
        if kind not in DTYPES or kind != next(iter(kinds.values())):
            raise InputsError(f"floating tensors must share one dtype of {', '.join(DTYPES)}; `{name}` is {kind}")
    return next(iter(kinds.values()))


def _plan(argument: Argument, array: Array, dtype: str) -> TensorPlan:
    """The tensor's plan, if its dtype is one that the argument takes."""
    allowed = {"floating": "f", "bool": "b", "integer": "iu", "bool or floating": "bf", "bool or number": "biu"}[argument.dtype]
    kind = array.dtype.kind
    if kind not in allowed or (kind == "f" and str(array.dtype) != dtype):
        what = argument.dtype.replace("floating", dtype)
        raise InputsError(f"`{argument.name}` must be {what}, got {array.dtype}")
    return TensorPlan(array.shape, "bool" if kind == "b" else dtype if kind == "f" else "int32")


def _plain(array: Array) -> Any:
    """A saved scalar or pair as a Python value."""
    value = array.tolist()
    return tuple(value) if isinstance(value, list) else value


def _checked(spec: Spec, configuration: Configuration) -> Configuration:
    """The configuration with its sizes, if it is a valid call that an oracle can judge."""
    try:
        known = facts(spec, configuration)
        broken = [each for each in spec.preconditions if holds(each.when, known) and not holds(each.requires, known)]
        dropped = [
            stage.clause
            for stage in resolve(spec, known).stages
            if stage.kind == "dropout" and evaluated(stage.expression, known.scope, known) != 0
        ]
    except (ShapeMismatch, EvaluationError) as error:
        raise InputsError(str(error)) from None
    if broken:
        raise InputsError(f"the call breaks `{broken[0].clause}`: {broken[0].message}")
    if dropped:
        raise InputsError("dropout must be off: what it gives is random")
    sizes = tuple((name, size) for name, size in known.sizes.items() if len(name) == 1)
    return Configuration(spec.name, configuration.dtype, sizes, configuration.values, configuration.tensors)


def _given(
    spec: Spec, configuration: Configuration, found: Mapping[str, Array], cotangents: Mapping[str, Array]
) -> dict[str, Array]:
    """The call's arrays in its own dtypes, and a cotangent for every output that has a gradient."""
    made = arrays(Case(configuration, 0), spec)
    given = {name: found[name].astype(made[name].dtype) for name, _ in configuration.tensors}
    for name in (name for name in made if name.startswith(COTANGENT)):
        given[name] = cotangents.get(name, made[name]).astype(made[name].dtype)
        if given[name].shape != made[name].shape:
            raise InputsError(f"`{name}` must have shape {made[name].shape}, got {given[name].shape}")
    return given
