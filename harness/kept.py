"""What a run keeps of the specs that it is done with, in a file, so that one that was interrupted goes on where it was.

The file is JSON, written anew after each spec, whole or not at all. It belongs to one run: profile, seed, specs, subjects and
versions must be those it was begun with, and anything else is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.files import write_whole
from attnspec.harness.findings import Finding, Shown
from attnspec.harness.known_deviations import Deviation
from attnspec.harness.mask_pictures import Picture
from attnspec.harness.plan import Plan
from attnspec.harness.tally import Cell, Ratios, Share, Tally
from attnspec.spec.interchange import to_json


class KeptError(ValueError):
    """A file that keeps no run, or another one."""


@dataclass
class Kept:
    """`done` are the references of specs; of them are the findings, the counts, the errors and what known deviations did."""

    run: str
    seed: int
    seconds: float = 0.0
    done: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    errors: tuple[str, ...] = ()
    seen: Mapping[Deviation, int] = field(default_factory=dict)
    tried: tuple[Deviation, ...] = ()
    tally: Tally = field(default_factory=Tally)


_COUNTED = (Tally, Cell, Ratios, Share)
_OF_FINDINGS = (Finding, Failure, Worst, Shown, Picture, Case, Configuration, TensorPlan)
_CLASSES = {each.__name__: each for each in (Kept, Deviation, *_COUNTED, *_OF_FINDINGS)}


def run_of(plan: Plan, versions: Mapping[str, Mapping[str, str]]) -> str:
    """What makes a run another one, as a digest."""
    items = [[to_json(item.spec), *(subject.to_dict() for subject in item.subjects)] for item in plan.items]
    asked = [plan.seed, repr(plan.profile), plan.checks, plan.dtypes, items, versions, sorted(map(repr, plan.deviations))]
    return sha256(json.dumps(asked).encode()).hexdigest()


def write(file: Path, kept: Kept) -> None:
    """Write the file. Raises KeptError."""
    try:
        write_whole(file, json.dumps(_plain(kept)))
    except OSError as error:
        raise KeptError(f"{file}: {error.strerror}") from None


def read(file: Path) -> Kept | None:
    """What a file keeps; nothing where there is no file yet. Raises KeptError."""
    try:
        kept = _rebuilt(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeptError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeptError(f"{file}: expected what an interrupted run left there, got something else") from None
    if not isinstance(kept, Kept):
        raise KeptError(f"{file}: expected what an interrupted run left there, got something else")
    return kept


# -- values as JSON -----------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A dataclass as an object with its class under `is`, a mapping as pairs, for its keys may be anything."""
    if is_dataclass(value):
        return {"is": type(value).__name__} | {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(key), _plain(each)] for key, each in value.items()]}
    if isinstance(value, (tuple, list)):
        return list(map(_plain, value))
    return value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_rebuilt, value))
    if not isinstance(value, dict):
        return value
    if "pairs" in value:
        return {_rebuilt(key): _rebuilt(each) for key, each in value["pairs"]}
    return _CLASSES[value["is"]](**{key: _rebuilt(each) for key, each in value.items() if key != "is"})
