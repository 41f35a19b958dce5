"""Generated files on disk: render, format, then write, check or diff. One code path serves all three."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attnspec.codegen import VERSION
from attnspec.codegen.blockwise import coverage as coverage_by_blocks
from attnspec.codegen.blockwise.module import TARGETS as BLOCKWISE
from attnspec.codegen.blockwise.module import auto_module, blockwise_modules
from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.kernels import coverage, refusals
from attnspec.codegen.module import covers, module_text, require
from attnspec.codegen.pallas import module as pallas
from attnspec.codegen.pallas_tpu import module as pallas_tpu
from attnspec.codegen.r.package import package
from attnspec.codegen.targets import TARGETS
from attnspec.codegen.targets.r import R
from attnspec.codegen.triton import module as triton
from attnspec.codegen.verify import VerificationError
from attnspec.spec.model import Spec

MANIFEST = "manifest.json"
LINE_LENGTH = 128
FORMS = ("both", "direct", "blockwise", "auto")
"""Which forms are written: a file of each where a spec has both, one of them, or one file that has both and chooses."""
KERNELS = {"pallas": pallas, "pallas_tpu": pallas_tpu, "triton": triton}
"""Targets of fused kernels, whose rooms are alike."""


@dataclass(frozen=True)
class Changes:
    """What a run found: relative paths whose text differs, with the wanted text (None: no longer produced)."""

    folder: Path
    wanted: Mapping[str, str | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def diff(self) -> str:
        """A unified diff from what is on disk to what the specs say."""
        return "".join(_diff(path, _read(self.folder / path) or "", text or "") for path, text in sorted(self.wanted.items()))

    def apply(self) -> None:
        """Write, and remove what is no longer produced. Each file is replaced whole."""
        for path, text in self.wanted.items():
            if text is None:
                (self.folder / path).unlink(missing_ok=True)
            else:
                _replace(self.folder / path, text)


def changes(specs: Iterable[Spec], targets: Iterable[str] | None, folder: Path, complete: bool, form: str = "both") -> Changes:
    """Compare `folder` with what `specs` give on `targets`, or on every target that covers them.

    `complete`: files of other specs are no longer produced. `form` is one of FORMS. Raises LoweringError where a spec cannot
    be compiled.
    """
    specs = list(specs)
    rendered = _render(specs, None if targets is None else list(targets), form)
    if complete and targets is None:
        rendered |= {f"{name}/README.md": ("", _refusals(name, specs, rendered)) for name in KERNELS}
    old = _manifest(folder)
    kept = {} if complete else {path: entry for path, entry in old.items() if path not in rendered}
    files = {path: {"spec": spec, "sha256": _digest(text)} for path, (spec, text) in rendered.items()}
    manifest = {"generator": f"attnspec {VERSION}", "files": dict(sorted({**kept, **files}.items()))}
    wanted: dict[str, str | None] = {path: text for path, (_, text) in rendered.items()}
    wanted[MANIFEST] = json.dumps(manifest, indent=2) + "\n"
    wanted |= {path: None for path in old if path not in manifest["files"]}
    return Changes(folder, {path: text for path, text in wanted.items() if _read(folder / path) != text})


def source(spec: Spec, target: str, formatted: bool) -> str | None:
    """The text of one implementation; None where the target cannot say it."""
    try:
        text = module_text(spec, TARGETS[target])
    except (LoweringError, VerificationError):
        return None
    return _format({"source.py": text})["source.py"] if formatted else text


def _render(specs: list[Spec], targets: list[str] | None, form: str = "both") -> dict[str, tuple[str, str]]:
    """Relative path -> (spec name, formatted text)."""
    if form == "blockwise":
        _require_blockwise(specs, targets)
        targets = list(BLOCKWISE) if targets is None else targets
    modules = _modules(specs, targets if targets is None else [target for target in targets if target in TARGETS], form)
    modules |= _kernels(specs, targets)
    formatted = _format({path: text for path, (_, text) in modules.items()})
    in_r = [spec for spec in specs if targets is not None or covers(R, spec)]
    if targets is not None and "r" in targets:
        for spec in specs:
            require(R, spec)
    r_files = package(in_r) if targets is None or "r" in targets else ()
    in_python = {path: (spec, formatted[path]) for path, (spec, _) in modules.items()}
    return in_python | {f"r/{path}": (spec, text) for path, spec, text in r_files}


def _kernels(specs: list[Spec], targets: list[str] | None) -> dict[str, tuple[str, str]]:
    """The kernels of those specs where they are asked for, or of all that have some."""
    texts: dict[str, tuple[str, str]] = {}
    for name, room in KERNELS.items():
        if targets is not None and name not in targets:
            continue
        chosen = [spec for spec in specs if targets is not None or not any(coverage.reasons(spec, room.LANGUAGE))]
        if chosen:
            texts[f"{name}/__init__.py"] = ("", f'"""Generated kernels for {name}: one file per API or variant."""\n')
        texts |= {f"{name}/{spec.module_name}.py": (spec.name, room.module_text(spec)) for spec in chosen}
    return texts


def _refusals(target: str, specs: list[Spec], rendered: Mapping[str, tuple[str, str]]) -> str:
    """The page of what the kernels refuse, read off their files."""
    return refusals.page(specs, KERNELS[target].LANGUAGE, lambda spec: rendered[f"{target}/{spec.module_name}.py"][1])


def _require_blockwise(specs: list[Spec], targets: list[str] | None) -> None:
    """LoweringError where a target or a spec has no blockwise form."""
    for target in targets or ():
        if target not in BLOCKWISE:
            raise LoweringError(f"{target} has no blockwise form, only {', '.join(BLOCKWISE)} have")
    for spec in specs:
        coverage_by_blocks.require(spec)


def _modules(specs: list[Spec], targets: list[str] | None, form: str) -> dict[str, tuple[str, str]]:
    """The Python modules of those targets, or of all that cover a spec: direct, blockwise, or both where there are both."""
    texts: dict[str, tuple[str, str]] = {}
    for target in TARGETS if targets is None else targets:
        chosen = [spec for spec in specs if targets is not None or covers(TARGETS[target], spec)]
        if chosen:
            texts[f"{target}/__init__.py"] = (
                "",
                f'"""Generated implementations for {target}: one file per API or variant."""\n',
            )
        for spec in chosen:
            if form != "blockwise":
                write = auto_module if form == "auto" else module_text
                texts[f"{target}/{spec.module_name}.py"] = (spec.name, write(spec, TARGETS[target]))
            for suffix, text in blockwise_modules(spec, TARGETS[target]) if form in ("both", "blockwise") else ():
                texts[f"{target}/{spec.module_name}_{suffix}.py"] = (spec.name, text)
    return texts


def _format(texts: Mapping[str, str]) -> dict[str, str]:
    """All files through the pinned formatter, in one run."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path, text in texts.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        options = ["--isolated", "--line-length", str(LINE_LENGTH), "--target-version", "py311"]
        # In a folder of its name, a framework would be taken for the files' own package.
        imports = ["--select", "F401,I", "--config", 'lint.isort.known-third-party = ["keras", "tf_keras", "triton"]']
        for command in (["check", "--quiet", "--fix", *imports, *options], ["format", "--quiet", *options]):
            run = subprocess.run([_ruff(), *command, str(root)], capture_output=True, text=True, check=False)
            if run.returncode:
                raise RuntimeError(f"the formatter refused generated code:\n{run.stdout}{run.stderr}")
        return {path: (root / path).read_text(encoding="utf-8") for path in texts}


def _ruff() -> str:
    from ruff import find_ruff_bin  # type: ignore[import-untyped]

    return os.fsdecode(find_ruff_bin())


def _manifest(folder: Path) -> dict[str, dict[str, str]]:
    """The files of the last run. Raises OSError where the folder holds a manifest of something else."""
    text = _read(folder / MANIFEST)
    try:
        files = json.loads(text)["files"] if text else {}
    except (ValueError, KeyError, TypeError):
        files = None
    if not isinstance(files, dict):
        raise FileExistsError(f"{folder / MANIFEST} is not a manifest of generated files")
    return files


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _diff(path: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"on disk/{path}", f"from the spec/{path}")
    return "".join(lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
