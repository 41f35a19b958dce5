"""A run that was saved as `--format full` (or as `json-lines`, whose last line is the same), read back and checked.

Each class here is an object of the file, its fields the keys that a page needs; other keys are left alone. What is missing or
of another kind is an error that names its place: `run.json: findings[0].worst.index: expected a list, got 3`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from attnspec.harness.mask_pictures import Picture
from attnspec.harness.reports.as_json import SCHEMA

NOT_NUMBERS = ("inf", "-inf", "nan")  # JSON has none of them: they are texts
KINDS: Mapping[Any, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (int, float)}
NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
HOW = "write it with `attnspec check --format full`"


class SavedRunError(ValueError):
    """A file that holds no saved run; the message says what is wrong where."""


@dataclass(frozen=True, slots=True)
class Worst:
    """An element outside its bound."""

    index: tuple[int, ...]
    got: float
    want: float
    bound: float
    error_over_bound: float


@dataclass(frozen=True, slots=True)
class Found:
    """A finding."""

    cause: str
    causes: tuple[str, ...]
    stage: str
    subject: str
    check: str
    clause: str
    api: str
    path: str
    seen: str
    also: tuple[str, ...]
    case: str
    failing: int
    cases: int
    dtypes: tuple[str, ...]
    versions: Mapping[str, str]
    worst: Worst | None
    answers: Mapping[str, str]
    replay: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to see of a finding: its causes equal the subject on `explained` of the `asked` failing cases."""

    explained: int
    asked: int
    script: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Implementation:
    """A subject that was asked for, and the lane it runs in, open or not."""

    api: str
    subject: str
    lane: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """What became of a subject's arguments."""

    subject: str
    api: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Counted:
    """One subject at one dtype."""

    api: str
    subject: str
    dtype: str
    cases: int
    gradient_cases: int
    unanswered: int
    worst_error_over_bound: float
    worst_gradient_error_over_bound: float
    worst_case: str
    worst_gradient_case: str
    ratios: tuple[int, ...]
    gradient_ratios: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """The cases of one API and dtype that judged nobody."""

    api: str
    dtype: str
    cases: int
    ill_conditioned: int
    invalid: int
    sampled: int
    vacuous: int


@dataclass(frozen=True, slots=True)
class Known:
    """A known deviation that showed."""

    subject: str
    check: str
    clause: str
    instead: str
    seen: int
    versions: str
    why: str
    link: str
    when: str
    dtype: str


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A whole run."""

    passed: bool
    versions: Mapping[str, Mapping[str, str]]
    seed: int
    cases: int
    coverage: Mapping[str, Mapping[str, Mapping[str, int]]]
    findings: tuple[Found, ...]
    subjects: tuple[Arguments, ...]
    errors: tuple[str, ...]
    not_covered: tuple[str, ...]
    command: str
    profile: str
    checks: tuple[str, ...]
    seconds: float
    lanes: Mapping[str, str]
    implementations: tuple[Implementation, ...]
    matrix: tuple[Counted, ...]
    ratio_edges: tuple[float, ...]
    shares: tuple[Share, ...]
    known_deviations: tuple[Known, ...]
    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    masks: Mapping[str, tuple[Picture, ...]]


def read(file: Path) -> SavedRun:
    """The run in a file. Raises SavedRunError."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise SavedRunError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SavedRunError(f"{file}: expected a run as JSON, got no text; {HOW}") from None
    return from_json(text, str(file))


def from_json(text: str, where: str) -> SavedRun:
    """The run that a text holds; `where` begins the message of a SavedRunError."""
    data = _data(text, where)
    schema = data.get("schema")
    if "seed" not in data or schema is None:
        raise SavedRunError(f"{where}: expected a run of attnspec; {HOW}")
    if schema != SCHEMA:
        raise SavedRunError(f"{where}: expected schema {SCHEMA}, got {schema!r}: it is of another version of attnspec")
    if "matrix" not in data:
        raise SavedRunError(f"{where}: expected everything that was counted, got `--format json`; {HOW}")
    run: SavedRun = _object(SavedRun, data, f"{where}: ")
    _check_counts(run, where)
    return run


def _check_counts(run: SavedRun, where: str) -> None:
    """What belongs together is of one length."""
    if len(run.evidence) != len(run.findings):
        raise SavedRunError(f"{where}: evidence: expected {len(run.findings)}, one for each finding, got {len(run.evidence)}")
    if list(run.ratio_edges) != sorted(run.ratio_edges) or not all(edge > 0 for edge in run.ratio_edges):
        raise SavedRunError(f"{where}: ratio_edges: expected positive numbers, the smallest first")
    for number, counted in enumerate(run.matrix):
        for name, counts in (("ratios", counted.ratios), ("gradient_ratios", counted.gradient_ratios)):
            if len(counts) != len(run.ratio_edges) + 1:
                wanted = f"{len(run.ratio_edges) + 1} counts, one more than there are edges"
                raise SavedRunError(f"{where}: matrix[{number}].{name}: expected {wanted}, got {len(counts)}")


def _data(text: str, where: str) -> Mapping[str, Any]:
    try:
        data = _parsed(text)
    except json.JSONDecodeError as error:
        if text.lstrip()[:1] in ("", "{"):
            place = f"line {error.lineno}, column {error.colno}"
            raise SavedRunError(
                f"{where}: ends in the middle ({place}): the run was interrupted, or the file cut off"
            ) from None
        raise SavedRunError(f"{where}: expected a run as JSON, got {text[:20]!r}; {HOW}") from None
    except RecursionError:
        raise SavedRunError(f"{where}: expected a run as JSON, got lists within lists; {HOW}") from None
    if not isinstance(data, dict):
        raise SavedRunError(f"{where}: expected a run as a JSON object, got {_named(data)}; {HOW}")
    if data.get("event", "finished") != "finished":
        raise SavedRunError(f"{where}: the run was interrupted: its last line is `{data['event']}`, not `finished`")
    return data


def _parsed(text: str) -> Any:
    """The object, or the last of the objects line by line."""
    lines = text.strip().splitlines()
    is_lines = bool(lines) and lines[0].startswith('{"event"')
    return json.loads(lines[-1] if is_lines else text)


# -- from JSON to classes -----------------------------------------------------------------------------------------


def _object(cls: Any, data: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(cls)
    values = {}
    for field in fields(cls):
        if field.name not in data:
            raise SavedRunError(f"{where}{field.name}: is missing; {HOW} of this version")
        values[field.name] = _value(hints[field.name], data[field.name], f"{where}{field.name}")
    return cls(**values)


def _value(hint: Any, data: Any, where: str) -> Any:
    """`data` as what the annotation says."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # of None and something
        return None if data is None else _value(next(each for each in inner if each is not NoneType), data, where)
    if hint is float and isinstance(data, str) and data in NOT_NUMBERS:
        return float(data)
    if origin is tuple and isinstance(data, list):
        return tuple(_value(inner[0], each, f"{where}[{number}]") for number, each in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {key: _value(inner[1], each, f"{where}.{key}") for key, each in data.items()}
    if is_dataclass(hint) and isinstance(data, dict):
        return _object(hint, data, f"{where}.")
    if hint in KINDS and type(data) in KINDS[hint]:  # `isinstance` takes True for an int
        return data
    raise SavedRunError(f"{where}: expected {_expected(hint)}, got {_named(data)}")


def _expected(hint: Any) -> str:
    return NAMES.get(hint) or ("a list" if get_origin(hint) is tuple else "an object")


def _named(data: Any) -> str:
    text = json.dumps(data)
    return text if len(text) <= 40 else f"{text[:37]}..."
