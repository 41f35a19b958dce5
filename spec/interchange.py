"""A spec as JSON and back, without loss and with the standard library alone, for processes that have nothing else.

A dataclass is an object with its class under `is`, a tuple a list; everything else is JSON already. Fields at their
default are written too: a reader of another version then fails loudly instead of filling in its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from attnspec.spec import model, nodes
from attnspec.spec.model import Spec

_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for module in (model, nodes)
    for cls in vars(module).values()
    if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
}


def to_json(spec: Spec) -> str:
    """The spec as one line of JSON."""
    return json.dumps(_plain(spec), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(text: str) -> Spec:
    """The spec that `to_json` wrote. Raises ValueError for anything else."""
    try:
        spec = _rebuilt(json.loads(text))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a spec of this version of attnspec: {error}") from None
    if not isinstance(spec, Spec):
        raise ValueError(f"expected a spec, got {type(spec).__name__}")
    return spec


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {"is": type(value).__name__} | {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_rebuilt, value))
    if not isinstance(value, dict):
        return value
    made = {key: _rebuilt(item) for key, item in value.items() if key != "is"}
    return _CLASSES[value["is"]](**made) if "is" in value else made
