"""What users import: the check as a function, and a function's conformance as tests of a suite of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import brought
from attnspec.harness import check
from attnspec.harness.conformance import calls, clauses
from attnspec.harness.facts import facts
from attnspec.harness.subjects import SubjectError
from attnspec.harness.user_api import name_of
from attnspec.spec.loader import SpecError, builtin
from attnspec.spec.resolve import resolve

API = "jax.nn.dot_product_attention"
SPEC = builtin()[API]
TESTS = str(Path(brought.__file__).parent)


# -- check --------------------------------------------------------------------------------------------------------


def test_check_does_what_the_command_does() -> None:
    run = check(
        brought.dot_product_attention, API, cases=24, gradient_cases=8, dtypes=["float32"], seed=1, skip_check=["coverage"]
    )
    assert run.passed, (run.findings, run.errors)
    (became,) = run.tally.arguments.values()
    assert became["mask"] == "honoured"
    assert run.tally.cases == 32


def test_what_cannot_be_checked_raises() -> None:
    with pytest.raises(SubjectError, match="requires `window`"):
        check(brought.needs_more, API, framework="numpy")
    with pytest.raises(SpecError, match=r"no\.such\.api"):
        check(brought.heads_first, "no.such.api")


def local() -> Callable[..., None]:
    def inner() -> None: ...

    return inner


def test_a_function_is_named_by_its_module_or_its_file(tmp_path: Path) -> None:
    assert name_of("a:b") == "a:b"
    assert name_of(brought.heads_first) == "brought:heads_first"
    assert name_of(np.einsum).endswith(":einsum")
    file = tmp_path / "somewhere.py"
    file.write_text("def attention(): ...")
    found = importlib.util.spec_from_file_location("no_import_path", file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    assert name_of(module.attention) == f"{file}:attention"
    for unnamed in (lambda: None, local()):
        with pytest.raises(SubjectError, match="Expected a function that can be imported"):
            name_of(unnamed)


# -- conforms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clause", [each for each in clauses(SPEC) if "." in each])
def test_a_clause_is_tried_alone(clause: str) -> None:
    found = calls(SPEC, "float32", clause)
    assert len(found) > 12
    for configuration in found:
        stages = resolve(SPEC, facts(SPEC, configuration)).stages
        own = [stage.clause for stage in stages if stage.when is not None]
        assert clause in [stage.clause for stage in stages]
        assert len(set(own) - {clause}) <= clause.endswith("query_length")  # both of its stages come together


SUITE = """
from attnspec.harness import conforms

test_{name} = conforms("{module}:{name}", "{api}", dtypes=["float32", "bfloat16"], cases=8)
"""


def suite(folder: Path, module: str, name: str, *options: str) -> tuple[int, str]:
    """Exit code and output of pytest on a user's suite, in a process of its own."""
    (folder / "test_mine.py").write_text(SUITE.format(name=name, module=module, api=API))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([TESTS, *sys.path])}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-rs",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        *options,
        str(folder),
    ]
    ended = subprocess.run([*command, str(folder)], capture_output=True, text=True, cwd=folder, env=environment, check=False)
    return ended.returncode, ended.stdout


def test_one_line_is_a_suite_with_readable_ids_on_any_worker(tmp_path: Path) -> None:
    code, out = suite(tmp_path, "brought", "dot_product_attention", "-n", "2")
    passed = set(re.findall(r"PASSED \S*::(\S+)", out))
    assert code == 0, out
    assert {f"test_dot_product_attention[{clause}-float32]" for clause in clauses(SPEC)} <= passed
    assert {"test_dot_product_attention[preconditions]", "test_dot_product_attention[signature]"} <= passed
    assert "numpy has no bfloat16" in out


def test_a_fault_fails_the_tests_of_its_clause(tmp_path: Path) -> None:
    source = (Path(TESTS) / "planted_bugs" / "numpy_attention.py").read_text().replace("s <= t\n", "s <= t + S - T\n")
    (tmp_path / "wrong.py").write_text(source)
    code, out = suite(tmp_path, "wrong", "dot_product_attention", "-n", "0", "-k", "not arguments")
    failed = set(re.findall(r"\[(\S+)\] FAILED", out))
    assert code == 1
    assert failed == {"mask.causal-float32", "together-float32"} | ({"empty_row-float32"} & failed)
    assert "is_causal=True" in out
    assert "attnspec replay" in out


def test_what_is_not_offered_is_skipped_and_says_so(tmp_path: Path) -> None:
    code, out = suite(tmp_path, "brought", "picky", "-n", "0", "-k", "bias or score")
    assert code == 0, out
    assert re.search(r"score\.dot-float32\] PASSED", out)
    assert "does not offer bias, mask" in out


def test_an_import_that_fails_fails_the_tests(tmp_path: Path) -> None:
    code, out = suite(tmp_path, "brought", "gone", "-n", "0", "-k", "score")
    assert code == 1
    assert "there is no `gone` in " in out
