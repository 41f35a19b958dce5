"""Generated torch: autograd to the second order, and every transform that torch has for a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnspec.harness.checks import arguments, relations
from attnspec.harness.checks.related_calls import relations as relations_of
from attnspec.harness.configuration import Configuration
from attnspec.harness.lanes.framework import framework
from attnspec.harness.lanes.messages import Answer, unpack
from attnspec.harness.lanes.server import Server
from attnspec.harness.scripts import script
from attnspec.harness.subjects import Subject, generated, user
from attnspec.spec.interchange import to_json
from attnspec.spec.loader import builtin
from attnspec.spec.model import Spec
from builtin_calls import BLOCKWISE, CALLS, JAX_NN, SDPA, float64_through, function, residual
from by_hand import Arrays, central_differences, random_arrays
from capabilities import Example
from turned_calls import found_when_turned

pytestmark = [pytest.mark.xdist_group("torch"), pytest.mark.usefixtures("_blocks_of_two")]
each_call = pytest.mark.parametrize("call", [*CALLS, *BLOCKWISE], ids=lambda call: call.id)
DIRECT = [call for call in CALLS if call.id.rpartition("-")[2] in ("causal", "segments", "capped") or call.spec == "causal_gqa"]
one_call_of_each = pytest.mark.parametrize("call", [*DIRECT, *BLOCKWISE], ids=lambda call: call.id)
one_direct_call_of_each = pytest.mark.parametrize("call", DIRECT, ids=lambda call: call.id)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.fixture
def _blocks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small calls take several blocks, and skip some."""
    for name in {call.spec for call in BLOCKWISE}:
        monkeypatch.setattr(f"attnspec.generated.torch.{name}.BLOCK", 2)


def tensors_of(call: Example) -> list[Tensor]:
    return [torch.from_numpy(array) for array in call.arrays().values()]


def attention(call: Example) -> Callable[..., Tensor]:
    """The generated function of its differentiable tensors alone."""
    names, target = list(call.shapes), function(call.spec, "torch")
    fixed = call.arguments({}, torch.from_numpy)

    def attend(*tensors: Tensor) -> Tensor:
        result: Tensor = target(**dict(zip(names, tensors, strict=True)), **fixed)
        return result

    return attend


def precision(call: Example) -> dict[str, Any]:
    return {"atol": 1e-10, "rtol": 1e-10} if float64_through(call) else {"atol": 1e-5, "rtol": 1e-5}


@each_call
def test_values_are_those_written_by_hand(call: Example) -> None:
    (expected,) = call.reference(call.arrays())
    torch.testing.assert_close(attention(call)(*tensors_of(call)), torch.from_numpy(expected), **precision(call))


@each_call
def test_gradients_are_the_slopes_of_what_is_written_by_hand(call: Example) -> None:
    """Also where a row sees nothing: no NaN reaches the gradient."""
    (cotangent,) = call.cotangents()

    def scalar(arrays: Arrays) -> float:
        return float((call.reference(arrays)[0] * cotangent).sum())

    tensors = [tensor.requires_grad_() for tensor in tensors_of(call)]
    found = torch.autograd.grad(attention(call)(*tensors), tensors, torch.from_numpy(cotangent))
    for gradient, slope in zip(found, central_differences(scalar, call.arrays()).values(), strict=True):
        np.testing.assert_allclose(gradient, slope, atol=1e-8 if float64_through(call) else 3e-6)


@pytest.mark.parametrize("call", [c for c in (*CALLS, *BLOCKWISE) if float64_through(c)], ids=lambda call: call.id)
def test_second_derivatives_are_right(call: Example) -> None:
    tensors = [tensor.requires_grad_() for tensor in tensors_of(call)]
    assert torch.autograd.gradgradcheck(attention(call), tensors, fast_mode=True)


def test_second_derivatives_through_a_float32_softmax_are_what_the_gradient_changes_by() -> None:
    """jax.nn's softmax is float32 even for float64 inputs, so steps must be large and the tolerance too."""
    call = next(c for c in CALLS if c.spec == JAX_NN and "lengths" in c.id)
    attend, tensors = attention(call), tensors_of(call)
    direction = [torch.randn(t.shape, generator=torch.Generator().manual_seed(0), dtype=t.dtype) for t in tensors]

    def gradient(*at: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.func.grad(lambda *x: attend(*x).square().sum(), argnums=(0, 1, 2))(*at)
        return found

    found: tuple[Tensor, ...] = torch.func.jvp(gradient, tuple(tensors), tuple(direction))[1]
    ahead, behind = (gradient(*(t + h * d for t, d in zip(tensors, direction, strict=True))) for h in (1e-2, -1e-2))
    for change, a, b in zip(found, ahead, behind, strict=True):
        torch.testing.assert_close(change, (a - b) / 2e-2, atol=2e-2, rtol=2e-2)


@one_call_of_each
def test_compiled_whole_it_gives_the_same(call: Example) -> None:
    """fullgraph: one break in the graph would raise. aot_eager compiles the backward pass too, without a C++ compiler."""
    compiled = torch.compile(attention(call), fullgraph=True, backend="aot_eager")
    results = []
    for attend in (attention(call), compiled):
        tensors = [tensor.requires_grad_() for tensor in tensors_of(call)]
        output = attend(*tensors)
        results.append([output, *torch.autograd.grad(output.square().sum(), tensors)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, **precision(call))


def test_compiled_for_shapes_that_change_it_gives_the_same() -> None:
    attend = function("causal_gqa", "torch")
    compiled = torch.compile(attend, fullgraph=True, backend="eager", dynamic=True)
    for rows in (3, 6):
        arrays = random_arrays(rows, query=(2, rows, 4, 3), key=(2, rows + 1, 2, 3), value=(2, rows + 1, 2, 5))
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        torch.testing.assert_close(compiled(**tensors), attend(**tensors))


@one_call_of_each
def test_mapped_over_a_new_axis_it_gives_every_call(call: Example) -> None:
    attend, tensors = attention(call), tensors_of(call)
    stacked = [torch.stack([tensor, 2 * tensor, -tensor]) for tensor in tensors]
    found = torch.func.vmap(attend)(*stacked)
    for row, factor in zip(found, (1, 2, -1), strict=True):
        torch.testing.assert_close(row, attend(*(factor * tensor for tensor in tensors)))


@one_call_of_each
def test_mapped_over_one_argument_alone_it_gives_every_call(call: Example) -> None:
    attend, (query, *others) = attention(call), tensors_of(call)
    stacked = torch.stack([query, -query], dim=-1)
    found = torch.func.vmap(attend, in_dims=(-1, *[None] * len(others)))(stacked, *others)
    torch.testing.assert_close(found[1], attend(-query, *others))


@one_call_of_each
def test_gradients_of_each_sample_are_those_of_a_loop(call: Example) -> None:
    attend, tensors = attention(call), tensors_of(call)

    def loss(*at: Tensor) -> Tensor:
        return attend(*at).square().sum()

    per_sample = torch.func.grad(loss, argnums=(0, 1, 2))
    stacked = [torch.stack([tensor, 2 * tensor]) for tensor in tensors]
    found = torch.func.vmap(per_sample)(*stacked)
    for part, alone in zip(found, per_sample(*(2 * tensor for tensor in tensors)), strict=True):
        torch.testing.assert_close(part[1], alone)


@one_direct_call_of_each
def test_jacobians_are_the_same_in_both_modes(call: Example) -> None:
    attend, tensors = attention(call), tensors_of(call)
    backward = torch.func.jacrev(attend, argnums=(0, 1, 2))(*tensors)
    forward = torch.func.jacfwd(attend, argnums=(0, 1, 2))(*tensors)
    for b, f in zip(backward, forward, strict=True):
        torch.testing.assert_close(b, f, **precision(call))


@pytest.mark.parametrize("call", BLOCKWISE, ids=lambda call: call.id)
def test_jacobians_of_the_blockwise_form_are_those_of_the_direct_form(call: Example) -> None:
    """The backward loop under vmap: only the cotangent is mapped."""
    direct = replace(call, spec=call.spec.removesuffix("_blockwise"))
    found, expected = (torch.func.jacrev(attention(c), argnums=(0, 1, 2))(*tensors_of(call)) for c in (call, direct))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **precision(call))


@one_call_of_each
def test_gradients_mapped_over_the_query_alone_are_those_of_a_loop(call: Example) -> None:
    """What the backward pass writes into must be mapped even where the tensor that it belongs to is not."""
    attend, (query, *others) = attention(call), tensors_of(call)
    gradient = torch.func.grad(lambda *at: attend(*at).sum(), argnums=(0, 1, 2))
    found = torch.func.vmap(gradient, in_dims=(0, *[None] * len(others)))(torch.stack([query, -query]), *others)
    for part, alone in zip(found, gradient(-query, *others), strict=True):
        torch.testing.assert_close(part[1], alone)


class Program(torch.nn.Module):
    """What `torch.export` takes: a module around a function."""

    def __init__(self, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.attend = attend

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attend(query, key, value)


@one_call_of_each
def test_exported_it_gives_the_same(call: Example) -> None:
    tensors = tuple(tensors_of(call))
    exported = torch.export.export(Program(attention(call)), tensors, strict=True)
    torch.testing.assert_close(exported.module()(*tensors), attention(call)(*tensors), **precision(call))


@pytest.mark.parametrize("name", ["gemma2", "causal_gqa"])
def test_exported_for_any_batch_and_length_it_gives_the_same(name: str) -> None:
    attend = function(name, "torch")
    batch, rows, keys = (torch.export.Dim(dim, min=2, max=64) for dim in ("batch", "rows", "keys"))
    shapes = ({0: batch, 1: rows}, {0: batch, 1: keys}, {0: batch, 1: keys})

    def sample(b: int, t: int, s: int) -> tuple[Tensor, ...]:
        arrays = random_arrays(0, query=(b, t, 4, 3), key=(b, s, 2, 3), value=(b, s, 2, 5))
        return tuple(map(torch.from_numpy, arrays.values()))

    exported = torch.export.export(Program(attend), sample(2, 3, 5), dynamic_shapes=shapes)
    torch.testing.assert_close(exported.module()(*sample(3, 7, 4)), attend(*sample(3, 7, 4)))


@pytest.mark.parametrize("call", [c for c in (*DIRECT, *BLOCKWISE) if c.spec != "packed_documents"], ids=lambda call: call.id)
def test_one_tensor_may_be_all_three_arguments(call: Example) -> None:
    shape = call.shapes["key"]
    x = torch.from_numpy(random_arrays(0, x=shape)["x"]).requires_grad_()
    attend = attention(call)
    (together,) = torch.autograd.grad(attend(x, x, x).square().sum(), x)
    apart = [x.detach().clone().requires_grad_() for _ in range(3)]
    gradients = torch.autograd.grad(attend(*apart).square().sum(), apart)
    torch.testing.assert_close(together, sum(gradients, torch.zeros_like(x)), **precision(call))
    compiled = torch.compile(lambda y: attend(y, y, y), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), attend(x, x, x), **precision(call))


@each_call
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_query(call: Example, dtype: torch.dtype) -> None:
    tensors = [tensor.to(dtype).requires_grad_() for tensor in tensors_of(call)]
    output = attention(call)(*tensors)
    assert output.dtype == dtype
    assert {gradient.dtype for gradient in torch.autograd.grad(output.sum(), tensors)} == {dtype}


@each_call
def test_products_beyond_the_range_of_fp16_do_not_overflow(call: Example) -> None:
    """Every logit is past 65504 and all of a row are equal."""
    big = [torch.full(shape, 300.0 if name in ("query", "key") else 1.0).half() for name, shape in call.shapes.items()]
    tensors = [tensor.requires_grad_() for tensor in big]
    output = attention(call)(*tensors)
    gradients = torch.autograd.grad(output.sum(), tensors)
    assert all(gradient.isfinite().all() for gradient in gradients)
    one = torch.ones_like(output)
    assert ((output == 0) | torch.isclose(output, one, atol=2e-3)).all()


@each_call
def test_memory_layouts_do_not_matter_and_nothing_is_written_to(call: Example) -> None:
    def strided(tensor: Tensor) -> Tensor:
        spread = torch.zeros(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
        spread[..., ::2] = tensor
        return spread.mT.contiguous().mT[..., ::2]

    tensors = [strided(tensor) for tensor in tensors_of(call)]
    assert not any(tensor.is_contiguous() for tensor in tensors)
    output = attention(call)(*tensors)
    torch.testing.assert_close(output, attention(call)(*tensors_of(call)), **precision(call))
    assert all(torch.equal(a, b) for a, b in zip(tensors, tensors_of(call), strict=True))


def test_the_residual_comes_without_a_gradient() -> None:
    arrays = random_arrays(0, query=(2, 3, 4, 3), key=(2, 5, 2, 3), value=(2, 5, 2, 3))
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    output, found = function(JAX_NN, "torch")(**tensors, is_causal=True, return_residual=True)
    np.testing.assert_allclose(found, residual(arrays), atol=1e-6)
    assert output.requires_grad
    assert not found.requires_grad


def test_dropout_draws_from_torchs_generator() -> None:
    query, value = torch.zeros(1, 1, 40, 2), torch.ones(1, 1, 50, 1)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(function(SDPA, "torch")(query, torch.zeros(1, 1, 50, 2), value, dropout_p=0.25))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert outputs[0].mean().item() == pytest.approx(1, abs=0.05)


def here(spec: Spec, subject: Subject, configuration: Configuration, given: Arrays, **asked: Any) -> Answer:
    """The call of a lane's server, in a process in which the compiler is already there."""
    arrays = {name: [array.dtype.str, list(array.shape), array.tobytes().hex()] for name, array in given.items()}
    lessons = {"specs": {spec.name: to_json(spec)}, "configurations": {"0": configuration.to_dict()}}
    request = {"op": "call", "subject": subject.to_dict(), "configuration": 0, "arrays": arrays, **lessons}
    server = Server(framework("torch"), lambda case: None)
    (answer,) = unpack(*server.handle({"gradient": False, "attempt": False, **request, **asked}))
    return answer


def test_a_lane_compiles_a_call_that_it_turns(tmp_path: Path) -> None:
    failure = found_when_turned("torch", here, tmp_path)
    assert failure.message == "`is_causal` is silently ignored where it is compiled by torch.compile"
    spec = builtin()[failure.api]
    assert "torch.compile(subject.attention" in script(spec, user(failure.subject, spec, "torch"), failure, "")


DETACHED = """
import torch
from torch.autograd import Function, grad
from torch.nn.functional import scaled_dot_product_attention as right

class Attention(Function):
    forward = staticmethod(lambda ctx, *tensors: ctx.save_for_backward(*tensors) or right(*tensors))

    @staticmethod
    def backward(ctx, cotangent):
        leaves = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        return grad(right(*leaves), leaves, cotangent)

def attention(query, key, value):
    return Attention.apply(query, key, value)
"""


def test_second_derivatives_are_checked(tmp_path: Path) -> None:
    """Right gradients that autograd cannot follow are constants to it: all second derivatives are zero."""
    spec = builtin()["torch.nn.functional.scaled_dot_product_attention"]
    (tmp_path / "detached.py").write_text(DETACHED)
    wrong = user(f"{tmp_path / 'detached.py'}:attention", spec, "torch")
    for case in arguments.cases(spec, "float64")[0][:1]:
        (related,) = (each for each in relations_of(spec, case) if each.relation == "second-order")
        for subject in (*generated(spec, "torch"), wrong):
            failures = list(relations.check(spec, subject, partial(here, spec, subject), related))
            assert [failure.message for failure in failures] == (
                ["the second derivative by `query` is outside the bound"] if subject is wrong else []
            )
    (failure,) = failures
    assert failure.worst is not None
    assert failure.worst.got == 0
    assert "create_graph=True" in script(spec, wrong, failure, "")
