"""Specs compiled inside a test: TOML text or a file in, the generated module out."""

from __future__ import annotations

import importlib.util
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock, patch

from attnspec.codegen.blockwise.choice import DIRECT_UP_TO
from attnspec.codegen.blockwise.module import auto_module, blockwise_modules
from attnspec.codegen.derivative import vjp_program
from attnspec.codegen.lower import lower_spec
from attnspec.codegen.module import function_text, module_text, vjp_text
from attnspec.codegen.targets import TARGETS
from attnspec.spec.loader import load
from attnspec.spec.model import Spec

ROOT = Path(__file__).resolve().parents[1]
SPECS = ROOT / "tests" / "specs"
GENERATED = ROOT / "generated"


def spec_of(text: str, folder: Path) -> Spec:
    """The spec that a TOML text declares."""
    path = folder / "under_test.toml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return load(path)


def module_of(spec: Spec, target: str) -> ModuleType:
    """The generated module of a spec, executed without being written anywhere."""
    module = ModuleType(f"{spec.module_name}_for_{target}")
    exec(compile(module_text(spec, TARGETS[target]), f"<{module.__name__}>", "exec"), module.__dict__)
    return module


def blockwise_module_of(spec: Spec, target: str) -> ModuleType:
    """The blockwise module of a spec, executed without being written anywhere."""
    ((_, source),) = blockwise_modules(spec, TARGETS[target])
    module = ModuleType(f"{spec.module_name}_blockwise_for_{target}")
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    return module


def choosing_module_of(spec: Spec, target: str, direct_up_to: int) -> ModuleType:
    """The module that takes calls of up to so many logits of a head at once; `_direct` notes its calls."""
    with patch.dict(DIRECT_UP_TO, {target: direct_up_to}):
        source = auto_module(spec, TARGETS[target])
    module = ModuleType(f"{spec.module_name}_auto_for_{target}")
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    vars(module)["_direct"] = Mock(wraps=vars(module)["_direct"])
    return module


@cache
def capability(name: str, target: str) -> ModuleType:
    """The generated module of one of `tests/specs`."""
    return module_of(load(SPECS / f"{name}.toml"), target)


def forward_text(spec: Spec, target: str = "numpy") -> str:
    """The generated function alone, as the printer leaves it."""
    return function_text(spec, lower_spec(spec), TARGETS[target])


def backward_text(spec: Spec) -> str:
    """The NumPy `vjp` alone, as the printer leaves it."""
    return vjp_text(spec, vjp_program(spec, lower_spec(spec)), TARGETS["numpy"])


def body_of(text: str) -> str:
    """What follows a function's docstring, without its indent."""
    return textwrap.dedent(text.split('"""')[2]).strip("\n")


def imported(path: Path) -> ModuleType:
    """A generated file, imported by its path."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
