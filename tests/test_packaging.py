"""The top-level folders are what gets installed: nothing missing, nothing under a bare name, everything pinned."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("spec", "codegen", "generated", "harness")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))


def normal(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sources(pattern: str) -> set[Path]:
    """The files of the packages that match, relative to the root."""
    found = (path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob(pattern))
    return {path for path in found if "__pycache__" not in path.parts}


def test_every_folder_with_modules_is_a_listed_package() -> None:
    folders = {"attnspec." + ".".join(path.parent.parts) for path in sources("*.py")}
    assert folders == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_package_has_an_init() -> None:
    assert {path.parent for path in sources("*.py")} == {path.parent for path in sources("__init__.py")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_imported_from_here(folder: str) -> None:
    module = import_module(f"attnspec.{folder}")
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / folder / "__init__.py"


def test_folders_are_never_imported_under_their_bare_name() -> None:
    code = f"import sys, attnspec.harness.cli; print(*{set(FOLDERS)!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests", check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_wheel_holds_every_module_and_every_data_file(tmp_path: Path) -> None:
    project = tmp_path / "project"  # a copy: a build in place leaves its own files behind
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE", PROJECT["project"].get("readme", "LICENSE")):
        shutil.copy(ROOT / file, project)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--wheel-dir", str(tmp_path), str(project)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    patterns = ("*.py", "*.toml", "*.json", "py.typed", "*.R", "*.Rd", "*.css", "*.js", "DESCRIPTION", "NAMESPACE")
    files = set().union(*map(sources, patterns))
    assert held == {f"attnspec/{path.as_posix()}" for path in files}


def test_console_script_exists() -> None:
    module, _, name = PROJECT["project"]["scripts"]["attnspec"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_everything_needed_is_pinned() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    needs = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(need for extra in extras for need in extra),
    ]
    names = {normal(re.split(r"[\[<>=!~; ]", need)[0]) for need in needs}
    assert names - {"attnspec"} <= {normal(name) for name in PINS}


@pytest.mark.parametrize(("name", "version"), PINS.items())
def test_pin_is_exact_and_installed(name: str, version: str) -> None:
    assert re.fullmatch(r"[0-9][0-9a-z.]*", version), "a version: no path, no host, no local build"
    assert distribution(name).version.split("+")[0] == version
