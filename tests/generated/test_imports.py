"""What generated files may lean on: their framework and the standard library, and never the framework's own attention."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiling import GENERATED

FILES = sorted(path for path in GENERATED.glob("*/*.py") if path.name != "__init__.py")
TARGETS = sorted({path.parent.name for path in FILES})
ATTENTION = re.compile(r"attention|attn|flash|sdpa|transformer", re.IGNORECASE)
SETTINGS = {"is_flash_attention_enabled"}  # asked for, and computes nothing
BACK_DOORS = {"eval", "exec", "__import__", "import_module", "getattr", "globals", "vars"}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> Iterator[str]:
    """Dotted names of everything that a module imports."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def names(module: ast.Module) -> Iterator[str]:
    """Every attribute and every name that the module does not define itself, as a layer does with `self.flash_attention`."""
    nodes = list(ast.walk(module))
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    kept = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            mine = owner in {"self", "type(self)", *classes} and node.attr in kept | own
            yield from () if mine else (node.attr,)
        elif isinstance(node, ast.Name) and node.id not in own:
            yield node.id


def test_there_are_files_of_every_target() -> None:
    """Otherwise everything below would hold for nothing."""
    assert TARGETS == ["jax", "keras", "numpy", "pallas", "pallas_tpu", "tensorflow", "tf_keras", "torch", "triton"]
    assert len(FILES) >= 25


@each_file
def test_no_name_is_defined_twice(path: Path) -> None:
    """Helpers and the functions of a skeleton are found by name: one that both have would be there in the other's place too."""
    defined = [node.name for node in tree(path).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name != "_"]
    assert sorted(set(defined)) == sorted(defined)


@each_file
def test_a_file_imports_its_framework_and_the_standard_library(path: Path) -> None:
    packages = {name.partition(".")[0] for name in imported(tree(path))}
    pairs = {"triton": {"triton", "torch"}, "pallas": {"jax"}, "pallas_tpu": {"jax"}, "tf_keras": {"tensorflow", "tf_keras"}}
    own = pairs.get(path.parent.name, {path.parent.name})
    assert packages - sys.stdlib_module_names == own


@each_file
def test_no_file_uses_an_attention_of_its_framework(path: Path) -> None:
    used = [*names(tree(path)), *imported(tree(path))]
    assert [name for name in used if ATTENTION.search(name) and name not in SETTINGS] == []


@each_file
def test_no_file_gets_at_anything_by_name(path: Path) -> None:
    """What the walk above cannot follow is not there."""
    assert BACK_DOORS & set(names(tree(path))) == set()


@each_file
def test_every_import_is_used(path: Path) -> None:
    module = tree(path)
    aliases = [a for node in ast.walk(module) if isinstance(node, (ast.Import, ast.ImportFrom)) for a in node.names]
    bound = {alias.asname or alias.name for alias in aliases} - {"annotations"}
    assert bound <= {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}


ALONE = """
import importlib.util, sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ImportError(f"{name} is not for generated files")

sys.meta_path.insert(0, Refuse())
for path in sorted(Path(sys.argv[1]).glob("*/*.py")):
    found = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    print(path.stem)
"""


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_works_when_it_is_copied_alone(target: str, tmp_path: Path) -> None:
    """In a folder of its own, in a process that has neither attnspec nor another framework."""
    files = [path for path in FILES if path.parent.name == target]
    for path in files:
        (tmp_path / path.stem).mkdir()
        shutil.copy(path, tmp_path / path.stem)
    # a backend; a module it looks for; what launches kernels
    beside = {"keras": ["jax"], "tensorflow": ["keras"], "tf_keras": ["tensorflow", "keras"]}
    beside |= {"triton": ["torch"], "pallas": ["jax"], "pallas_tpu": ["jax"]}
    needed = {target, *beside.get(target, [])}
    refused = ",".join({"attnspec", "pydantic", "torch", "jax", "tensorflow", "keras", "tf_keras"} - needed)
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), refused]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path / "home")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [path.stem for path in files]
