"""Meets a user's function before the run: which framework it needs, whether it is there, what of its API it offers.

Two questions to two processes. `lane_of` asks the user's interpreter which framework the function's module brings along;
`introduced` asks the lane, once it is open, how the function is called. Whatever keeps it from being called at all is a
SubjectError; a function that crashes or hangs is not asked twice, the run finds it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnspec.harness import adapter
from attnspec.harness.checks.preconditions import ANY
from attnspec.harness.checks.signature import NOT_OFFERED
from attnspec.harness.crew import Crew
from attnspec.harness.lanes.lane import Lane
from attnspec.harness.lanes.messages import Lost
from attnspec.harness.lanes.process import import_path
from attnspec.harness.plan import Item
from attnspec.harness.subjects import LANES, Subject, SubjectError, split, target_of
from attnspec.spec.expression import ExpressionError, parse
from attnspec.spec.model import Argument, Precondition, Spec
from attnspec.spec.suggestions import did_you_mean

PROBE_SECONDS = 120.0
TARGETS = tuple(dict.fromkeys(map(target_of, LANES)))
# Runs in the user's interpreter with the standard library alone: which frameworks are there once the module is imported.
PROBE = """
import importlib, importlib.util, json, runpy, sys
path, module, *frameworks = sys.argv[1:]
sys.path[:0] = json.loads(path)
out = sys.stdout
sys.stdout = sys.stderr
found = {"installed": [name for name in frameworks if importlib.util.find_spec(name)]}
try:
    runpy.run_path(module) if module.endswith(".py") else importlib.import_module(module)
except BaseException as error:
    found["error"] = f"{type(error).__name__}: {error}"
found["loaded"] = [name for name in sys.modules if name in frameworks]
if hasattr(sys.modules.get("keras"), "backend"):
    found["backend"] = sys.modules["keras"].backend.backend()
json.dump(found, out)
"""


def lane_of(text: str, spec: Spec, python: str | None = None) -> str:
    """The lane that a user's subject runs in: the framework that importing its module brings along.

    Among several the API's own comes first. A module that brings none runs in the API's framework where that is installed.
    Raises SubjectError for a module that cannot be imported there.
    """
    module, _ = split(text)
    if module.endswith(".R"):
        return "r"
    found = _probed(text, module, python or sys.executable)
    if "error" in found:
        raise SubjectError(f"{text}: cannot be imported: {found['error']}")
    brought = _asked_for(found["loaded"])
    # Keras brings its backend along, and comes before it.
    preferred = [name for name in (spec.owner, "keras", *TARGETS) if name != "numpy"]
    loaded = next((name for name in preferred if name in brought), None)
    if loaded == "keras":
        return f"keras-{found['backend']}"
    if loaded or "numpy" in brought:
        return loaded or "numpy"
    return spec.owner if spec.owner in LANES and spec.owner in found["installed"] else "numpy"


def _asked_for(loaded: Sequence[str]) -> list[str]:
    """Frameworks in the order in which their import ended, without those that tensorflow imports itself."""
    inside = loaded[: loaded.index("tensorflow")] if "tensorflow" in loaded else ()
    return [name for name in loaded if name not in ("jax", "keras") or name not in inside]


def _probed(text: str, module: str, python: str) -> dict[str, Any]:
    if not Path(python).exists():
        raise SubjectError(f"{text}: there is no interpreter {python}")
    try:
        command = [python, "-c", PROBE, json.dumps(import_path(python)), module, *TARGETS]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
        found: dict[str, Any] = json.loads(ended.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SubjectError(f"{text}: cannot be imported: {error}") from None
    except ValueError:
        raise SubjectError(f"{text}: cannot be imported: the process ended with {ended.returncode}") from None
    return found


def introduced(item: Item, crew: Crew) -> Item:
    """The item with every user's subject as its lane knows it: its spec without what the subject does not offer."""
    for subject in crew.present(item.subjects):
        if subject.is_brought:
            answer = crew.lanes[subject.lane].signature(subject)
            item = item if isinstance(answer, Lost) else _known(item, subject, answer)
    return item


def adapter_of(lane: Lane, subject: Subject) -> adapter.Adapter | None:
    """A user's adapter as its lane describes it; None where there is none."""
    answer = lane.signature(subject) if subject.is_brought else {}
    return adapter.from_described(answer["adapter"]) if not isinstance(answer, Lost) and "adapter" in answer else None


def _known(item: Item, subject: Subject, answer: Mapping[str, Any]) -> Item:
    """The item after one of its subjects has said what it is."""
    if "error" in answer:
        raise SubjectError(f"{subject.name}: {answer['error']}")
    if not answer["callable"]:
        raise SubjectError(f"{subject.name}: expected a function, a class or an adapter, got {answer['kind']}")
    spec = item.spec
    if "adapter" in answer:
        return _adapted(item, subject, answer)
    if spec.form == "layer" or "parameters" not in answer:
        return item
    if answer["kind"] == "class":
        raise SubjectError(f"{subject.name} is a class and {spec.name} a function: write {subject.name}() to check an instance")
    return replace(item, spec=without(spec, _missing(spec, subject, answer["parameters"])))


def _missing(spec: Spec, subject: Subject, parameters: Sequence[Sequence[Any]]) -> set[str]:
    """The optional arguments that a function does not have. Raises SubjectError where it cannot be called."""
    kinds = {name: kind for name, kind, _ in parameters}
    required = [argument for argument in spec.arguments if argument.required]
    positional = [name for name, kind in kinds.items() if kind.startswith("POSITIONAL")]
    if len(positional) < len(required) and "VAR_POSITIONAL" not in kinds.values():
        wanted = ", ".join(f"`{argument.name}`" for argument in required)
        raise SubjectError(f"{subject.name} takes {len(positional)} argument(s) by position; {spec.name} passes {wanted}")
    known = {*positional[: len(required)], *(argument.name for argument in spec.arguments)}
    for name, kind, default in parameters:
        if default is None and not kind.startswith("VAR") and name not in known:
            hint = "give it a default, or write an adapter (README, `Check your own function`)"
            raise SubjectError(f"{subject.name} requires `{name}`, which {spec.name} does not have: {hint}")
    if "VAR_KEYWORD" in kinds.values():
        return set()
    return {argument.name for argument in spec.arguments if not argument.required and argument.name not in kinds}


def _adapted(item: Item, subject: Subject, answer: Mapping[str, Any]) -> Item:
    described, spec = answer["adapter"], item.spec
    offered = described["arguments"]
    try:
        if offered is not None:
            _check_names(spec, offered, answer.get("parameters"))
            spec = without(spec, {a.name for a in spec.arguments if a.name not in offered})
        _check_layouts(item.spec, described["layouts"])
        spec = replace(spec, preconditions=(*spec.preconditions, *map(_requirement, described["requires"])))
    except adapter.AdapterError as error:
        raise SubjectError(f"{subject.name}: {error}") from None
    dtypes = tuple(dtype for dtype in item.dtypes if not described["dtypes"] or dtype in described["dtypes"])
    if not dtypes:
        raise SubjectError(f"{subject.name}: the adapter's `dtypes` has none of {', '.join(item.dtypes)}")
    return replace(item, spec=spec, dtypes=dtypes)


def _check_names(spec: Spec, offered: Mapping[str, str], parameters: Sequence[Sequence[Any]] | None) -> None:
    known = [argument.name for argument in spec.arguments]
    for name in offered:
        if name not in known:
            raise adapter.AdapterError(
                f"the adapter's `arguments` names {name!r}, which {spec.name} lacks.{did_you_mean(name, known)}"
            )
    for argument in spec.arguments:
        if argument.required and argument.name not in offered:
            raise adapter.AdapterError(f"the adapter's `arguments` lacks `{argument.name}`")
    own = {name: kind for name, kind, _ in parameters or ()}
    for name in offered.values() if own and "VAR_KEYWORD" not in own.values() else ():
        if name not in own:
            raise adapter.AdapterError(
                f"the adapter names a parameter {name!r} that the function lacks.{did_you_mean(name, own)}"
            )


def _check_layouts(spec: Spec, layouts: Mapping[str, str]) -> None:
    """Each must have the letters of one of the tensor's layouts, in any order."""
    known = adapter.layouts_of(spec)
    for name, text in layouts.items():
        if name not in known:
            raise adapter.AdapterError(
                f"the adapter's `layouts` names {name!r}, which {spec.name} lacks.{did_you_mean(name, known)}"
            )
        letters = [sorted(layout.dims) for layout in known[name]]
        if sorted(text.split()) not in letters:
            wanted = " or ".join(" ".join(dims) for dims in letters)
            raise adapter.AdapterError(f"the adapter's layout of `{name}` must have the letters {wanted}, got {text!r}")


def _requirement(text: str) -> Precondition:
    """What the subject requires, as a precondition of its own: whatever it raises is a refusal."""
    try:
        return Precondition(text, parse(text), ANY, f"not supported: {text}", "ruled")
    except ExpressionError as error:
        raise adapter.AdapterError(f"the adapter's `requires`: {text!r}: {error}") from None


def without(spec: Spec, missing: set[str]) -> Spec:
    """The spec as a subject has it that does not offer some optional arguments: they stay at their defaults."""

    def kept(argument: Argument) -> Argument:
        return replace(argument, inert=NOT_OFFERED) if argument.name in missing else argument

    preconditions = tuple(each for each in spec.preconditions if not any(missing & set(way) for way in each.violate))
    return replace(spec, arguments=tuple(map(kept, spec.arguments)), preconditions=preconditions)
