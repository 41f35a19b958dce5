"""Files on disk: written once, whole, only when they change, the same bytes anywhere; drift is told with a diff."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnspec.codegen.write import MANIFEST, changes
from attnspec.spec.loader import find
from compiling import GENERATED

SPEC, OTHER = find("causal_gqa"), find("gemma2")
FILE = "numpy/causal_gqa.py"


def write(folder: Path, *specs: str, complete: bool = True) -> list[str]:
    """Generate for NumPy; returns the paths that changed."""
    found = changes([find(name) for name in specs], ["numpy"], folder, complete, "direct")
    found.apply()
    return sorted(found.wanted)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_a_second_run_writes_nothing(tmp_path: Path) -> None:
    assert write(tmp_path, "causal_gqa") == [MANIFEST, "numpy/__init__.py", FILE]
    before = stamps(tmp_path)
    assert write(tmp_path, "causal_gqa") == []
    assert stamps(tmp_path) == before


def test_only_what_differs_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, "causal_gqa", "gemma2")
    before = stamps(tmp_path)
    (tmp_path / FILE).write_text("edited by hand\n", encoding="utf-8")
    assert write(tmp_path, "causal_gqa", "gemma2") == [FILE]
    after = stamps(tmp_path)
    assert {path for path in after if after[path] != before[path]} == {FILE}


def test_files_that_are_no_longer_produced_are_removed(tmp_path: Path) -> None:
    write(tmp_path, "causal_gqa", "gemma2")
    stranger = tmp_path / "numpy" / "mine.py"
    stranger.write_text("# not generated\n", encoding="utf-8")
    assert write(tmp_path, "causal_gqa") == [MANIFEST, "numpy/gemma2.py"]
    assert not (tmp_path / "numpy/gemma2.py").exists()
    assert stranger.exists()


def test_a_part_of_the_specs_leaves_the_rest_alone(tmp_path: Path) -> None:
    write(tmp_path, "causal_gqa", "gemma2")
    assert write(tmp_path, "causal_gqa", complete=False) == []
    assert (tmp_path / "numpy/gemma2.py").exists()
    assert "numpy/gemma2.py" in json.loads((tmp_path / MANIFEST).read_text())["files"]


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cut off leaves the old file or the new one, and nothing else in the folder."""
    write(tmp_path, "causal_gqa")
    old = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(old + "# edited\n", encoding="utf-8")

    def cut_off(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "causal_gqa")
    assert (tmp_path / FILE).read_text() == old + "# edited\n"
    assert sorted(path.name for path in (tmp_path / "numpy").iterdir()) == ["__init__.py", "causal_gqa.py"]


def test_a_diff_goes_from_the_disk_to_the_spec(tmp_path: Path) -> None:
    write(tmp_path, "causal_gqa")
    path = tmp_path / FILE
    path.write_text(path.read_text().replace("mask.causal: s <= t", "mask.causal: s < t"), encoding="utf-8")
    diff = changes([SPEC], ["numpy"], tmp_path, complete=True).diff()
    assert f"--- on disk/{FILE}" in diff
    assert f"+++ from the spec/{FILE}" in diff
    assert "-    # mask.causal: s < t\n+    # mask.causal: s <= t\n" in diff


def test_nothing_to_change_is_false_and_has_no_diff(tmp_path: Path) -> None:
    write(tmp_path, "causal_gqa")
    found = changes([SPEC], ["numpy"], tmp_path, complete=True, form="direct")
    assert not found
    assert found.diff() == ""


PROGRAM = """
import hashlib
from pathlib import Path
from attnspec.codegen.write import _render
from attnspec.spec.loader import builtin
for path, (_, text) in sorted(_render(list(builtin().values()), None).items()):
    print(path, hashlib.sha256(text.encode()).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_process() -> None:
    """Set order changes with the hash seed; what is written does not."""

    def hashes(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
        return run.stdout

    assert hashes("1") == hashes("2")


def test_what_is_committed_is_what_the_specs_give() -> None:
    """The unit test of drift: the same code path as `attnspec generate --check`."""
    from attnspec.spec.loader import builtin

    found = changes(builtin().values(), None, GENERATED, complete=True)
    assert not found, f"generated/ is stale; run `attnspec generate`\n{found.diff()}"


def test_the_manifest_lists_every_file_with_its_spec_and_digest(tmp_path: Path) -> None:
    write(tmp_path, "causal_gqa")
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["generator"].startswith("attnspec ")
    assert sorted(manifest["files"]) == ["numpy/__init__.py", FILE]
    assert manifest["files"][FILE]["spec"] == "causal_gqa"
