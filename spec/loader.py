"""Spec files to `Spec`: one API or variant, or all that come with attnspec. The only door, and the only user of pydantic.

Every error of a file is reported at once, in a `SpecError`.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from attnspec.spec.build import build
from attnspec.spec.declarations import FOLDER, operator
from attnspec.spec.errors import Errors, SpecError
from attnspec.spec.form import validate
from attnspec.spec.model import Spec
from attnspec.spec.schema import ApiFile, VariantFile
from attnspec.spec.suggestions import did_you_mean
from attnspec.spec.toml_text import decode, read
from attnspec.spec.variant import expand

__all__ = ["SpecError", "builtin", "find", "load", "loads"]


def load(path: str | Path) -> Spec:
    """The spec of one API or variant TOML file, wherever it lies. Raises SpecError."""
    path = Path(path)
    shown = _shown(path) or str(path)
    content, data = read(path, shown)
    return replace(_spec(content, data, shown), file=_shown(path) or path.name)


def loads(text: str | bytes, file: str = "<text>") -> Spec:
    """The spec of a TOML text. Raises SpecError."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _spec(content, decode(content, file), file)


@cache
def _builtin() -> dict[str, Spec]:
    files = [*sorted(FOLDER.glob("apis/*.toml")), *sorted(FOLDER.glob("variants/*.toml"))]
    specs = [load(file) for file in files]
    return {spec.name: spec for spec in specs}


def builtin() -> dict[str, Spec]:
    """Every spec that comes with attnspec, by name: APIs first, each kind in the order of its files."""
    return dict(_builtin())


def find(name: str | Path) -> Spec:
    """A built-in spec by its name, or its function's where just one has it, or any file ending in `.toml`. Raises SpecError."""
    text = str(name)
    if text.endswith(".toml"):
        return load(text)
    specs = _builtin()
    close = [spec for spec in specs.values() if text in (spec.name, spec.function_name)]
    if not close:
        known = f"known are {', '.join(specs)}, and any file that ends in .toml"
        raise SpecError(text, [f"no such spec; {known}.{did_you_mean(text, specs)}"])
    exact = [spec for spec in close if spec.name == text]
    if len(close) > 1 and not exact:
        raise SpecError(text, [f"several specs are called that; use the full name: {' or '.join(spec.name for spec in close)}"])
    return (exact or close)[0]


def _shown(path: Path) -> str:
    """The name of a file that comes with attnspec, the same on every machine; nothing for any other file."""
    full, home = path.resolve(), FOLDER.resolve()
    return f"spec/{full.relative_to(home).as_posix()}" if full.is_relative_to(home) else ""


def _spec(content: bytes, data: dict[str, Any], shown: str) -> Spec:
    declared, operator_bytes = operator()
    errors = Errors(shown)
    if "variant" in data:
        variant = validate(VariantFile, data, errors)
        file = None if variant is None else expand(variant, declared, errors)
    else:
        file = validate(ApiFile, data, errors)
    spec = None if file is None else build(file, declared, errors)
    errors.raise_any()
    assert spec is not None  # a file that is not understood has at least one error
    digest = hashlib.sha256(content + operator_bytes).hexdigest()
    return replace(spec, file=shown, digest=digest, family="variant" if "variant" in data else "api")
