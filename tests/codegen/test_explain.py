"""`attnspec explain`: the formulas in words, the shares, the picture, and an error for what makes no call."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from attnspec.codegen.blocks.picture import lines, shrunk, svg
from attnspec.codegen.blocks.table import FULL, SKIP, TEST
from attnspec.harness.cli import main
from compiling import SPECS

GEMMA2 = """\
gemma2: Soft-capped, causal, sliding-window attention with grouped key/value heads.

mask.causal: s <= t
mask.window: -left <= s - t and s - t <= 0

Some of the queries start <= t < stop see the keys
    start - left <= s < stop
and from some of them are hidden
    start + 1 <= s < S
    0 <= s < stop - left - 1
A block of the keys low <= s < high is skipped unless
    start < high + left and low < stop
and needs no test unless
    start + 1 < high
    or left + low + 1 < stop

At T = 1024, S = 768, left = 300, 8 x 6 blocks of 128 x 128:
    52.1 % skipped, 12.5 % full, 35.4 % tested

    ▒▒··········
    ██▒▒········
    ▒▒██▒▒······
    ▒▒▒▒██▒▒····
    ··▒▒▒▒██▒▒··
    ····▒▒▒▒██▒▒
    ······▒▒▒▒██
    ········▒▒▒▒
    █ full   ▒ tested   · skipped
"""


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_a_window_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, "gemma2", "--sizes", "T=1024,S=768", "--set", "left=300") == GEMMA2


def test_operands_are_made_up_by_a_rule_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, "packed_documents", "--sizes", "T=256,S=256", "--block", "32", "--set", "query_segment_ids=2")
    assert "    query_segment_ids: 2 documents of equal length\n    key_value_segment_ids: 8 documents of equal length" in shown
    assert "looked up in a table: skipped unless\n    low < stop and lowest(query_segment_ids[b, t]) <=" in shown


def test_arguments_of_an_api_decide_which_masks_hold(capsys: pytest.CaptureFixture[str]) -> None:
    api = "jax.nn.dot_product_attention"
    assert "No mask holds in this call" in explained(capsys, api)
    given = ["--set", "local_window_size=255,0", "--set", "key_value_seq_lengths=300", "--set", "is_causal=false"]
    shown = explained(capsys, api, "--sizes", "T=512,S=512", *given)
    assert "start - left <= s < min(right + stop, key_value_seq_lengths[b])" in shown
    assert "key_value_seq_lengths: 300 in every row" in shown
    assert "left = 255, right = 0" in shown


@pytest.mark.parametrize("file", sorted(SPECS.glob("*.toml")), ids=lambda file: file.stem)
def test_every_spec_is_explained(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert " blocks of 128 x 128:" in explained(capsys, str(file))


def test_a_size_that_derives_from_others_is_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(SPECS / "assembled_keys.toml")
    assert "At T = 4096, S = 150, C = 50, P = 99," in explained(capsys, file, "--sizes", "C=50,P=99,S=150")
    assert main(["explain", file, "--sizes", "C=50,P=99,S=512"]) == 2
    assert "assembled_keys has S = P + C + 1, which is 150, not 512" in capsys.readouterr().err


def test_tensors_may_come_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "operands.npz"
    mask = np.zeros((1, 1, 64, 64), bool)
    mask[0, 0, :32] = True
    np.savez(file, attn_mask=mask)
    api = "torch.nn.functional.scaled_dot_product_attention"
    shown = explained(capsys, api, "--sizes", "T=64,S=64", "--block", "32x16", "--arrays", str(file))
    assert "attn_mask: from the file\n    50.0 % skipped, 50.0 % full, 0.0 % tested" in shown
    np.savez(file, block_layout=np.eye(4, dtype=bool)[None].repeat(2, 0))
    shown = explained(capsys, "bigbird", "--sizes", "T=256,S=256,N=2", "--arrays", str(file))
    assert "Batch row 0, head 0:" in shown


def test_documents_of_equal_lengths_are_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, "variable_lengths", "--sizes", "T=1024,S=1024,U=5")
    assert "cu_seqlens_q: 4 documents of equal length\n    cu_seqlens_k: 4 documents of equal length" in shown
    assert "81.2 % skipped" in shown


def test_the_picture_is_drawn_into_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "blocks.svg"
    explained(capsys, "longformer", "--sizes", "T=1024,S=1024", "--svg", str(file))
    root = ElementTree.parse(file).getroot()
    full, tested = (path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path"))
    assert full.startswith("M0 0h2v1h-2z")
    assert len(re.findall("M", tested)) > 8


def test_of_no_queries_there_is_nothing_to_draw(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = explained(capsys, "gemma2", "--sizes", "T=0", "--svg", str(tmp_path / "empty.svg"))
    assert "0 x 32 blocks" in shown
    assert "tested   ·" not in shown
    ElementTree.parse(tmp_path / "empty.svg")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gemma3"], 'Did you mean "gemma2"?'),
        (["gemma2", "--sizes", "Q=3"], "--sizes: unknown size `Q`. Known are B, "),
        (["gemma2", "--sizes", "T"], "expected NAME=VALUE, got 'T'"),
        (["gemma2", "--sizes", "T=-3"], "--sizes: T must be a whole number from 0 to 1048576, got '-3'"),
        (["gemma2", "--block", "0"], "--block must be a whole number from 1 to 1048576, got '0'"),
        (["gemma2", "--block", "1x2x3"], "--block: expected 128 or 128x64, got '1x2x3'"),
        (["gemma2", "--block", "1", "--sizes", "T=100000"], "100000 x 4096 blocks are too many"),
        (["gemma2", "--set", "lef=3"], 'gemma2 has no argument `lef`. Did you mean "left"?'),
        (["gemma2", "--set", "left=x"], "`left` must be a whole number, got 'x'"),
        (["gemma2", "--set", "left=-1"], "gemma2 needs left >= 0, got left = -1"),
        (["gemma2", "--sizes", "N=3,K=2"], "gemma2 needs K > 0 and N % K == 0, got K = 2, N = 3"),
        (["gemma2", "--svg", "no/such/folder/blocks.svg"], "no/such/folder/blocks.svg: No such file or directory"),
        (["packed_documents", "--set", "query_segment_ids=x"], "`query_segment_ids` (B, T) must be given as a number"),
        (["packed_documents", "--arrays", "none.npz"], "none.npz: No such file or directory"),
        (["packed_documents", "--arrays", __file__], "is no .npz file of arrays"),
        (["jax.nn.dot_product_attention", "--set", "is_causal=perhaps"], "`is_causal` must be true or false, got 'perhaps'"),
        (["jax.nn.dot_product_attention", "--set", "local_window_size=1,2,3"], "a whole number, or two as 255,0"),
        (["jax.nn.dot_product_attention", "--sizes", "T=99999", "--set", "mask=0.5"], "is too large to make up"),
    ],
    ids=lambda value: "",
)
def test_what_makes_no_call_is_an_error_that_says_why(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "array", "error"),
    [
        ("segment_ids", np.zeros((1, 8), np.int64), "has no tensor `segment_ids`"),
        ("query_segment_ids", np.zeros((1, 8)), "`query_segment_ids` must be integer, got float64"),
        ("query_segment_ids", np.zeros((1, 3), np.int64), "`query_segment_ids` must have shape (B, T), got (1, 3)"),
    ],
)
def test_an_array_that_does_not_fit_is_an_error(
    name: str, array: np.ndarray, error: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.savez(tmp_path / "operands.npz", **{name: array})
    assert main(["explain", "packed_documents", "--sizes", "T=8,S=8", "--arrays", str(tmp_path / "operands.npz")]) == 2
    assert error in capsys.readouterr().err


DIAGONAL = np.array([[TEST, SKIP, SKIP, SKIP], [FULL, TEST, SKIP, SKIP], [FULL, FULL, TEST, SKIP], [FULL, FULL, FULL, TEST]])


def test_a_large_table_is_shown_in_fewer_blocks() -> None:
    small = shrunk(DIAGONAL.astype(np.int8), 2, 2)
    assert small.tolist() == [[TEST, SKIP], [FULL, TEST]]
    assert shrunk(DIAGONAL.astype(np.int8), 9, 9).tolist() == DIAGONAL.tolist()


def test_a_terminal_without_blocks_gets_plain_signs() -> None:
    shown = list(lines(DIAGONAL.astype(np.int8), "ascii"))
    assert shown[1] == "##++...."
    assert shown[-1] == "# full   + tested   . skipped"
    assert next(lines(np.zeros((100, 100), np.int8), width=10)) == "·" * 10


def test_titles_are_escaped() -> None:
    assert "a &lt; b &amp; c" in svg(DIAGONAL.astype(np.int8), "a < b & c", (4, 4))
