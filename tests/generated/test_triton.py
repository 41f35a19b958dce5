"""Generated kernels in Triton's interpreter: around every edge of a block, and as a part of torch.

A process of its own (`own_process.py`): whether Triton interprets is decided when it is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import pytest
import torch
import triton
from torch import Tensor

from attnspec.harness.lanes.in_triton import TritonFramework, _surrounded
from attnspec.harness.subjects import Subject, generated, load
from attnspec.spec.loader import find
from compiling import ROOT

BOUNDS = {torch.float32: 1e-5, torch.float16: 6e-3}  # a sanity check of magnitude: the verdict is the harness's


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> None:
    TritonFramework()


JAX, SDPA = "jax.nn.dot_product_attention", "torch.nn.functional.scaled_dot_product_attention"


def subject(name: str, lane: str = "triton") -> Subject:
    return next(generated(find(name), lane))


def module_of(function: Callable[..., Tensor]) -> dict[str, Any]:
    """The globals of the generated file."""
    found: dict[str, Any] = vars(function)["__wrapped__"].__globals__
    return found


def kernel(name: str, block_t: int, block_s: int, share: int = 1000) -> Callable[..., Tensor]:
    """The function with all its kernels in blocks of that size; several programs may share a row of so many keys each."""
    function = load(subject(name)).function
    module = module_of(function)
    launches = tuple((size, 256, (block_t, block_s, 4, 1)) for size in (2, 4))
    module.update(LAUNCHES=dict.fromkeys(module["LAUNCHES"], launches), SHARE=share)
    return function


def tensors(T: int, S: int, N: int, K: int, H: int, V: int, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    generator = np.random.default_rng(T * 100 + S)
    for shape in ((2, T, N, H), (2, S, K, H), (2, S, K, V)):
        yield _surrounded(generator.standard_normal(shape).astype(str(dtype).removeprefix("torch.")))


def check(name: str, blocks: tuple[int, ...], given: list[Tensor], **arguments: Any) -> None:
    """Output and gradients against the direct form in float64."""
    inputs = [tensor.requires_grad_() for tensor in given]
    wide = [tensor.detach().double().requires_grad_() for tensor in given]
    output = kernel(name, *blocks)(*inputs, **arguments)
    expected = load(subject(name, "torch")).function(*wide, **arguments)
    cotangent = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
    found = torch.autograd.grad(output, inputs, cotangent)
    wanted = torch.autograd.grad(expected, wide, cotangent.double())
    for one, other in zip((output, *found), (expected, *wanted), strict=True):
        assert one.dtype == given[0].dtype
        assert one.shape == other.shape
        assert torch.allclose(one.double(), other, atol=BOUNDS[one.dtype], rtol=BOUNDS[one.dtype])


@pytest.mark.parametrize(("T", "S"), [(7, 3), (8, 4), (9, 13), (17, 5)])
def test_sizes_around_the_edges_of_blocks(T: int, S: int) -> None:
    check("causal_gqa", (8, 4), list(tensors(T, S, 2, 1, 5, 3)))


@pytest.mark.parametrize("left", [0, 3, 40])
def test_windows_that_begin_inside_and_at_the_edges_of_blocks(left: int) -> None:
    check("gemma2", (4, 4), list(tensors(9, 13, 2, 2, 4, 4)), left=left, cap=2.0, scale=0.7)


@pytest.mark.parametrize(("left", "right", "first"), [(2, 1, 0), (0, 0, 3), (1, 5, 4)])
def test_several_ranges_of_keys_each_visited_once(left: int, right: int, first: int) -> None:
    check("longformer", (4, 4), list(tensors(14, 11, 2, 1, 4, 4)), left=left, right=right, global_tokens=first)


def test_documents_that_begin_inside_and_at_the_edges_of_blocks() -> None:
    queries, keys = (
        torch.tensor([[0] * 4 + [1] * 5 + [2], [5] * 9 + [7]]),
        torch.tensor([[0] * 3 + [1] * 4 + [2] * 4, [5] * 11]),
    )
    given = {"query_segment_ids": queries, "key_value_segment_ids": keys}
    check("packed_documents", (4, 4), list(tensors(10, 11, 2, 1, 4, 4)), **given)


BOUNDS_OF_DOCUMENTS = {
    "empty ones, and rows behind the last": ([0, 4, 4, 9, 12], [0, 3, 8, 8, 11]),
    "at the edges of blocks": ([0, 4, 8, 14], [0, 8, 12, 13]),
}


@pytest.mark.parametrize("bounds", BOUNDS_OF_DOCUMENTS.values(), ids=BOUNDS_OF_DOCUMENTS)
def test_documents_of_any_lengths_without_a_batch_axis(bounds: tuple[list[int], list[int]]) -> None:
    queries, keys = (torch.tensor(each, dtype=torch.int32) for each in bounds)
    given = [tensor[0] for tensor in tensors(14, 13, 2, 1, 4, 4)]
    check("variable_lengths", (4, 4), given, cu_seqlens_q=queries, cu_seqlens_k=keys.long())


def test_a_table_shows_whole_blocks() -> None:
    layout = torch.zeros(2, 3, 4, dtype=torch.bool)
    layout[0, 1, 3] = layout[1, 2, 2] = True
    check("bigbird", (4, 4), list(tensors(9, 10, 2, 1, 4, 4)), block_layout=layout, width=2)


def test_a_table_is_one_for_all_batches_under_vmap_or_mapped_too() -> None:
    function = kernel("variable_lengths", 16, 16)
    query, key, value = tensors(5, 7, 2, 1, 4, 4)
    bounds = torch.tensor([[0, 2, 5], [0, 3, 4]])
    found = torch.func.vmap(
        lambda query, ends: function(query, key[0], value[0], cu_seqlens_q=ends, cu_seqlens_k=torch.tensor([0, 3, 7]))
    )(query, bounds)
    each = zip(query, bounds, strict=True)
    expected = [function(q, key[0], value[0], cu_seqlens_q=b, cu_seqlens_k=torch.tensor([0, 3, 7])) for q, b in each]
    assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0), (1, 1), (5, 2)])
def test_sizes_of_none_and_one_and_rows_that_see_nothing(T: int, S: int) -> None:
    check("longformer", (4, 4), list(tensors(T, S, 2, 1, 3, 2)), left=0, right=0, global_tokens=0)


@pytest.mark.parametrize(("T", "S", "share"), [(1, 37, 8), (1, 40, 4), (3, 13, 3), (17, 9, 4)])
def test_programs_that_share_a_row_give_the_same(T: int, S: int, share: int) -> None:
    """Decoding: parts of whole blocks, the last one short or without any, and a mask that leaves parts without a key."""
    check("longformer", (16, 4, share), list(tensors(T, S, 2, 1, 5, 3)), left=2, right=1, global_tokens=1)
    query, key, value = (tensor.transpose(1, 2) for tensor in tensors(T, S, 2, 1, 4, 4))
    mask = (torch.arange(S) >= 5) & (torch.arange(T) != 1)[:, None]  # the second query sees nothing
    check(SDPA, (16, 4, share), [query, key, value], attn_mask=mask, enable_gqa=True)


def test_programs_share_a_row_only_where_processors_were_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = module_of(kernel("causal_gqa", 16, 16, 512))["_splits"]
    processors = type("Properties", (), {"multi_processor_count": 132})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: processors)
    gpu = torch.device("cuda")
    assert [splits(8, S, gpu) for S in (0, 511, 1024, 8192, 131072)] == [1, 1, 2, 16, 16]
    assert [splits(programs, 8192, gpu) for programs in (0, 1, 66, 67, 5000)] == [16, 16, 2, 1, 1]


@pytest.mark.parametrize("shape", [(1, 2, 5, 7), (2, 1, 1, 7), (1, 1, 5, 1), (2, 2, 1, 1)])
def test_a_bias_has_its_gradient_whatever_it_is_broadcast_over(shape: tuple[int, ...]) -> None:
    every = [*tensors(5, 7, 2, 1, 4, 4), _surrounded(np.random.default_rng(0).standard_normal(shape, np.float32))]
    mask = torch.stack([torch.arange(7) % 3 > 0, torch.arange(7) < 0])[:, None, None]  # batch row 1 sees nothing
    found = gradients(kernel(JAX, 4, 4), every, mask)
    wanted = gradients(load(subject(JAX, "torch")).function, [tensor.double() for tensor in every], mask)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one.double(), other, atol=1e-5)


def gradients(function: Callable[..., Tensor], tensors: list[Tensor], *others: Any) -> tuple[Tensor, ...]:
    """The output, and the gradients of the sum of its squares."""
    inputs = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*inputs, *others)
    return (output.detach(), *torch.autograd.grad(output.square().sum(), inputs))


def test_leading_axes_are_one_batch_axis_and_a_mask_or_bias_is_broadcast_over_them() -> None:
    query, key, value = (tensor.transpose(1, 2) for tensor in tensors(5, 7, 2, 2, 4, 3))
    every = [query[:, None].expand(-1, 2, -1, -1, -1), key[:, None], value[:, None]]
    function, expected = kernel(SDPA, 4, 4), load(subject(SDPA, "torch")).function
    for mask in (torch.arange(7) > 2, torch.linspace(-1, 1, 28).reshape(2, 2, 1, 7)):
        found = function(*every, mask)
        assert found.shape == (2, 2, 2, 5, 3)
        assert torch.allclose(found, expected(*every, mask), atol=1e-5)


def test_the_log_sum_exp_of_rows_that_see_nothing_and_of_biases_of_minus_infinity() -> None:
    """All hidden: the fill. All seen with logits of -inf: -inf, and NaN in the output, as softmax has it."""
    query, key, value = tensors(3, 5, 2, 1, 4, 4)
    mask = torch.tensor([True, False, True])[None, None, :, None]
    bias = torch.where(torch.tensor([False, False, True]), float("-inf"), 0.0)[None, None, :, None]
    found = kernel(JAX, 16, 16)(query, key, value, bias, mask, return_residual=True)
    wanted = load(subject(JAX, "torch")).function(query, key, value, bias, mask, return_residual=True)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-5, equal_nan=True)
    assert found[0][:, 2].isnan().all()


def test_dropout_zeroes_or_scales_and_draws_the_same_backward() -> None:
    """Values of one-hot rows show the weights themselves; a reference with that very mask has the same gradients."""
    query, key, value = (tensor.transpose(1, 2) for tensor in tensors(7, 33, 2, 1, 4, 5))
    function = kernel(SDPA, 4, 8)

    def weights(seed: int, rate: float) -> Tensor:
        torch.manual_seed(seed)
        found: Tensor = function(query, key, torch.eye(33).expand(2, 1, 33, 33), dropout_p=rate)
        return found

    plain, dropped = weights(0, 0.0), weights(0, 0.25)
    mask = (dropped != 0) / 0.75
    assert torch.allclose(dropped, plain * mask, atol=1e-6)
    assert abs(float((dropped != 0).float().mean()) - 0.75) < 0.07  # five deviations of 924 draws
    assert torch.equal(weights(0, 0.25), dropped)
    assert not torch.equal(weights(1, 0.25), dropped)
    assert not weights(0, 1.0).any()
    assert not torch.equal(mask[0], mask[1])
    assert not torch.equal(mask[:, 0], mask[:, 1])

    def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (torch.softmax(query @ key.mT / 2, -1) * mask) @ value

    torch.manual_seed(0)
    found = gradients(lambda *given: function(*given, dropout_p=0.25), [query, key, value])
    for one, other in zip(found, gradients(masked, [query, key, value]), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_half_precision_and_wide_heads() -> None:
    check("gemma2", (16, 16), list(tensors(17, 19, 4, 2, 33, 20, torch.float16)), left=6)


def test_a_kernel_is_whole_in_a_graph_and_its_registrations_hold() -> None:
    function = kernel("gemma2", 16, 16)
    query, key, value = (tensor.requires_grad_() for tensor in tensors(5, 7, 2, 1, 4, 4))
    compiled = torch.compile(lambda *given: function(*given, left=2).sum(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(query, key, value), function(query, key, value, left=2).sum())
    torch.library.opcheck(module_of(function)["_forward"]._opoverload, (query, key, value, 0.5, 2.0, 3))


def test_a_mapped_axis_joins_the_batch() -> None:
    function = kernel("gemma2", 16, 16)
    query, key, value = tensors(5, 7, 2, 1, 4, 4)
    mapped = torch.func.vmap(lambda query, key: function(query, key, value[:1], left=2), (0, 1), 1)
    found = mapped(query[:, None], key[None])
    expected = [function(query[i : i + 1], key[i : i + 1], value[:1], left=2) for i in range(2)]
    assert torch.equal(found, torch.stack(expected, 1))


def test_a_bias_is_whole_in_a_graph_and_joins_the_batch_under_vmap() -> None:
    function = kernel(JAX, 16, 16)
    query, key, value = tensors(3, 5, 2, 1, 4, 4)
    bias = torch.linspace(-1, 1, 15).reshape(1, 1, 3, 5).requires_grad_()
    given = (query, key, value, bias, None, 0.5, True, None, None, None, None)
    torch.library.opcheck(module_of(function)["_forward"]._opoverload, given)
    compiled = torch.compile(lambda bias: function(query, key, value, bias).sum(), fullgraph=True, backend="aot_eager")
    assert torch.equal(torch.autograd.grad(compiled(bias), bias)[0], torch.autograd.grad(function(*given[:4]).sum(), bias)[0])
    several = torch.stack([bias.detach(), -bias.detach()])
    found = torch.func.vmap(lambda bias: function(query, key, value, bias))(several)
    assert torch.equal(found, torch.stack([function(query, key, value, each) for each in several]))


def test_autocast_lowers_what_a_kernel_is_given() -> None:
    with torch.autocast("cpu", torch.float16):
        assert kernel("causal_gqa", 16, 16)(*tensors(3, 3, 1, 1, 4, 4)).dtype == torch.float16


def test_two_copies_of_a_file_do_not_stand_in_for_each_other(tmp_path: Path) -> None:
    text = Path(subject("causal_gqa").module).read_text(encoding="utf-8")
    copy = tmp_path / "causal_gqa.py"
    copy.write_text(text.replace("summed / tl.where(empty, 1.0, total)[:, None]", "summed * 0.0"), encoding="utf-8")
    own = kernel("causal_gqa", 16, 16)
    other = load(replace(subject("causal_gqa"), module=str(copy))).function
    query, key, value = tensors(3, 3, 1, 1, 4, 4)
    assert not other(query, key, value).any()
    assert own(query, key, value).any()


def test_what_no_kernel_can_do_is_refused_with_the_reason() -> None:
    function = kernel("causal_gqa", 16, 16)

    def called(dtype: torch.dtype, H: int = 4) -> Tensor:
        return function(*(torch.ones(1, 3, 1, H, dtype=dtype) for _ in range(3)))

    with pytest.raises(NotImplementedError, match="bfloat16 is not supported in Triton's interpreter"):
        called(torch.bfloat16)
    with pytest.raises(NotImplementedError, match=r"torch\.float64 is not supported; float16, bfloat16 and float32 are"):
        called(torch.float64)
    with pytest.raises(NotImplementedError, match="head dim 257 is not supported; up to 256 is"):
        called(torch.float32, 257)
    with pytest.raises(NotImplementedError, match="`left` = 2147483647 is not supported; kernels count in 32 bits"):
        kernel("gemma2", 16, 16)(*tensors(3, 3, 1, 1, 4, 4), left=2**31 - 1)


def test_the_benchmark_checks_kernels_before_it_times_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the interpreter, where it times nothing: a wrong kernel ends it, a right one gets its rows."""
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks" / "gpu.py")
    assert spec is not None and spec.loader is not None
    gpu = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = gpu
    spec.loader.exec_module(gpu)
    tiny = {"device": "cpu", "lengths": 16, "widths": 16, "dtypes": "fp32", "tokens": 16, "model": 32, "rounds": 1}
    small = [*(part for name, value in tiny.items() for part in (f"--{name}", str(value))), "--out"]
    out = tmp_path / "gpu.json"
    assert gpu.main(["nothing", *small, str(out)]) == 2
    gpu.module("triton", "causal_gqa").LOG2_E = triton.language.constexpr(1.45)
    assert gpu.main(["causal", *small, str(out)]) == 1
    assert "d_query is off by" in capsys.readouterr().out
    assert not out.exists()
    assert gpu.main(["decode", *small, str(out)]) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["case"] for row in rows] == ["copy", "matmul", "decode-16-16-fp32"]


def test_inputs_of_a_lane_lie_in_storage_full_of_nan() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    laid = _surrounded(array)
    assert np.array_equal(laid.numpy(), array)
    assert laid.stride() == (7, 1)
    around = torch.as_strided(laid, (laid.untyped_storage().nbytes() // 4,), (1,), 0)
    assert int(around.isnan().sum()) == 6 * 7 - 6
