"""A TOML file to its table: what pydantic finds wrong, in the words and with the keys that the file itself uses."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from attnspec.spec.errors import MAX_SHOWN, Errors, Key, alternatives, described
from attnspec.spec.schema import Table
from attnspec.spec.suggestions import closest, did_you_mean
from attnspec.spec.toml_types import TAGS

T = TypeVar("T", bound=Table)


def validate(model: type[T], data: Mapping[str, Any], errors: Errors) -> T | None:
    """The file as `model`, its errors of form noted; None where it is too broken to look at its meaning.

    A file with such errors is mended by leaving the wrong keys out, so that errors of meaning show at the same time.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details[:MAX_SHOWN]:
        errors.add(labelled(data, detail["loc"]), _message(detail, model))
    if len(details) > MAX_SHOWN:
        errors.left_out += len(details) - MAX_SHOWN
        return None
    try:
        return model.model_validate(_mended(data, details))
    except (ValidationError, KeyError, IndexError, TypeError):
        return None


def _mended(data: Mapping[str, Any], details: list[ErrorDetails]) -> Mapping[str, Any]:
    rest = copy.deepcopy(dict(data))
    for loc, meant in {_existing(data, detail["loc"]): _meant(detail) for detail in details}.items():
        table: Any = rest
        for part in loc[:-1]:
            table = table[part]
        if isinstance(table, dict):
            table.pop(loc[-1], None)
            table.update(dict.fromkeys(loc[-1:], meant) if meant else {})
    return rest


def _meant(detail: ErrorDetails) -> str:
    """The choice that a misspelt one is near to: going on with it, no error of meaning follows from the first one."""
    return closest(str(detail["input"]), _choices(detail)) if detail["type"] == "literal_error" else ""


def _choices(detail: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", detail["ctx"]["expected"])


def _existing(data: Any, loc: Key) -> Key:
    """The part of a pydantic location that is in the file: members of unions follow it."""
    found: list[str | int] = []
    for part in loc:
        if part in TAGS and part not in data:
            continue
        inside = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not inside and not (isinstance(data, dict) and part in data):
            break
        data = data[part]
        found.append(part)
    return tuple(found)


def labelled(data: Any, loc: Key) -> Key:
    """A location as people read it: `argument.mask.dtype`, not `argument[4].dtype`."""
    found: list[str | int] = []
    loc = tuple(part for part in loc if part not in TAGS)
    existing = _existing(data, loc)
    for part in existing:
        data = data[part]
        label = _label(data) if isinstance(part, int) else part
        found.append(label or (part + 1 if isinstance(part, int) else part))
    missing = loc[len(existing) :][:1]
    return (*found, *missing) if isinstance(data, dict) else tuple(found)


def _label(item: Any) -> str:
    keys = ("name", "clause", "use")
    words = (item.get(key) for key in keys) if isinstance(item, dict) else ()
    return next((word for word in words if isinstance(word, str) and word), "")


def _message(detail: ErrorDetails, model: type[Table]) -> str:
    got = described(detail["input"])
    context = detail.get("ctx", {})
    match detail["type"]:
        case "spec":
            return detail["msg"]
        case "missing":
            return "expected a value, got nothing"
        case "extra_forbidden":
            return f"unknown key.{did_you_mean(str(detail['loc'][-1]), _keys_at(model, detail['loc'][:-1]))}"
        case "literal_error":
            close = did_you_mean(str(detail["input"]), _choices(detail))
            return f"expected {alternatives(_choices(detail))}, got {got}.{close}"
        case "string_pattern_mismatch":
            return f"expected text like {_PATTERNS.get(context['pattern'], 'a dotted name')}, got {got}"
    return f"expected {_EXPECTED.get(detail['type'], detail['msg'].lower())}, got {got}"


_PATTERNS = {
    r"^[A-Z]$": "N (one capital letter)",
    r"^[a-z]+\.[a-z][a-z0-9_]{0,63}$": "mask.causal",
    r"^[A-Za-z][A-Za-z0-9_-]*$": "a-word",
    r"^_?[a-z][a-z0-9_]{1,63}$": "head_dim",
}
_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "an integer",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "too_short": "at least one",
    "too_long": "fewer entries",
}


def _keys_at(model: type[Table], loc: Key) -> list[str]:
    """The keys that the table at a location takes."""
    fields: dict[str, Any] = dict(model.model_fields)
    for part in loc:
        table = _table_in(fields[part].annotation) if part in fields else None
        fields = dict(table.model_fields) if table else fields
    return [field.alias or name for name, field in fields.items()]


def _table_in(annotation: Any) -> type[Table] | None:
    """The table that an annotation is of, or holds."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next((table for part in get_args(annotation) if (table := _table_in(part))), None)
