"""The R package as a whole: what is in it, its manual, and R's own check of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from attnspec.codegen import VERSION
from attnspec.codegen.module import covers
from attnspec.codegen.r.manual import rd
from attnspec.codegen.r.module import module_text, page, parameters
from attnspec.codegen.r.package import package
from attnspec.codegen.targets.r import R
from attnspec.spec.loader import builtin, load
from compiling import SPECS
from in_r import PACKAGE, needs_r, run_r

SPEC = builtin()["jax.nn.dot_product_attention"]


COVERED = [spec for spec in builtin().values() if covers(R, spec)]


def test_a_package_has_a_function_and_a_page_for_every_spec() -> None:
    files = {path: spec for path, spec, _ in package(COVERED)}
    own = {"DESCRIPTION", "NAMESPACE"}
    assert {path for path, spec in files.items() if not spec} == own
    modules = {spec.module_name for spec in COVERED}
    pages = {*modules, "layer_group_query_attention", "layer_multi_head_attention"}
    assert files.keys() - own == {f"R/{m}.R" for m in modules} | {f"man/{m}.Rd" for m in pages}
    assert list(package([])) == []


def test_the_package_has_the_version_of_the_compiler() -> None:
    assert f"\nVersion: {VERSION}\n" in (PACKAGE / "DESCRIPTION").read_text()


def test_a_page_documents_every_parameter_and_escapes_what_rd_reads() -> None:
    text = rd(page(SPEC))
    assert re.findall(r"\\item\{(\w+)\}", text) == [name for name, _ in parameters(SPEC)]
    assert "N \\% K == 0" in text
    assert "NULL means 1 / sqrt(H)" in text
    assert "None" not in text


def test_a_list_input_and_a_layer_are_documented_by_their_members() -> None:
    assert "a list of arrays: query, numeric, (B, T, N, H)" in module_text(load(SPECS / "list_input.toml")).replace(
        "\n#'  ", ""
    )
    layer = page(load(SPECS / "projected_layer.toml"))
    assert layer.arguments[0][0] == "params"
    assert "query_bias, (N, H) (where use_bias)" in layer.arguments[0][1]
    assert layer.example == ""


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("R/*.R")), ids=lambda path: path.stem)
def test_a_file_defines_what_it_uses_and_calls_no_package(path: Path) -> None:
    code = re.sub(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"', "", path.read_text())
    defined = re.findall(r"^([.\w]+) <- function", code, re.MULTILINE)
    assert defined[0] == path.stem
    assert len(defined) == len(set(defined))
    assert set(re.findall(r"(?<![\w.])\.[a-z_]\w*", code)) == {name for name in defined if name.startswith(".")}
    assert not re.search(r"::|\blibrary\(|\brequire\(|reticulate", code)


@needs_r
def test_a_file_calls_its_own_functions_and_those_of_base_r() -> None:
    """So it works when it is copied alone, on top of the base environment."""
    code = f"""
    for (file in list.files("{PACKAGE}/R", full.names = TRUE)) {{
      alone <- new.env(parent = baseenv())
      sys.source(file, alone)
      called <- function(x) if (is.call(x)) c(if (is.name(x[[1]])) as.character(x[[1]]), unlist(lapply(as.list(x), called)))
      names <- unlist(lapply(ls(alone, all.names = TRUE), function(name) called(body(get(name, alone)))))
      local <- c("is_public", "count", "listed", "how")
      known <- vapply(names, exists, NA, envir = alone, mode = "function")
      cat(length(names), setdiff(names[!known], local), "\\n")
    }}
    """
    lines = run_r(code).splitlines()
    assert len(lines) == len(COVERED)
    assert all(line.strip().isdecimal() and int(line) > 100 for line in lines)


@needs_r
def test_r_cmd_check_has_nothing_to_say(tmp_path: Path) -> None:
    """No error, no warning and no note, examples included."""
    environment = {**os.environ, "R_DEFAULT_INTERNET_TIMEOUT": "1", "_R_CHECK_FORCE_SUGGESTS_": "false", "LANGUAGE": "en"}
    for command in (["build", str(PACKAGE)], ["check", "--no-manual", f"attnspec_{VERSION}.tar.gz"]):
        ended = subprocess.run(
            ["R", "CMD", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Status: OK" in ended.stdout, ended.stdout
