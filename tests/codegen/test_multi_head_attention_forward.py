"""The generated torch.nn.functional.multi_head_attention_forward in the place of torch's own, called by torch's own layer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pytest

from compiling import GENERATED, imported

torch = pytest.importorskip("torch")
F = torch.nn.functional

FILE = "torch_nn_functional_multi_head_attention_forward"
OURS = imported(GENERATED / "torch" / f"{FILE}.py").multi_head_attention_forward
NUMPY = imported(GENERATED / "numpy" / f"{FILE}.py").multi_head_attention_forward
NUMPY_VJP = imported(GENERATED / "numpy" / f"{FILE}.py").multi_head_attention_forward_vjp
OWN = F.multi_head_attention_forward
LAYERS: list[dict[str, Any]] = [
    {},
    {"bias": False, "add_zero_attn": True},
    {"kdim": 6, "vdim": 10, "add_bias_kv": True, "batch_first": True},
]
E, N, B, T, S = 8, 2, 3, 4, 5


def drawn(*shape: int) -> Any:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def call(**changed: Any) -> dict[str, Any]:
    """A call by name, with packed weights and biases."""
    given: dict[str, Any] = {"query": drawn(T, B, E), "key": drawn(S, B, E), "value": drawn(S, B, E)}
    given |= {"embed_dim_to_check": E, "num_heads": N, "in_proj_weight": drawn(3 * E, E), "in_proj_bias": drawn(3 * E)}
    given |= {"bias_k": None, "bias_v": None, "add_zero_attn": False, "dropout_p": 0.0}
    return given | {"out_proj_weight": drawn(E, E), "out_proj_bias": drawn(E)} | changed


def calls() -> Iterator[dict[str, Any]]:
    hidden = torch.arange(S)[None] >= torch.tensor([[S], [4], [3]])
    causal = torch.ones(T, S, dtype=torch.bool).triu(1)
    apart = {"use_separate_proj_weight": True, "in_proj_weight": None, "q_proj_weight": drawn(E, E)}
    yield call()
    yield call(in_proj_bias=None, out_proj_bias=None, bias_k=drawn(1, 1, E), bias_v=drawn(1, 1, E), key_padding_mask=hidden)
    yield call(bias_k=drawn(E), bias_v=drawn(1, 1, E))
    yield call(static_k=drawn(B * N, S, E // N), attn_mask=drawn(B * N, T, S), add_zero_attn=True)
    yield call(static_v=drawn(B * N, S, E // N), attn_mask=causal, is_causal=True)
    yield call(**apart, k_proj_weight=drawn(E, 6), v_proj_weight=drawn(E, 7), key=drawn(S, B, 6), value=drawn(S, B, 7))
    yield call(query=drawn(T, E), key=drawn(S, E), value=drawn(S, E), key_padding_mask=hidden[2], attn_mask=drawn(N, T, S))


@pytest.mark.parametrize(("need_weights", "average"), [(True, True), (True, False), (False, True)])
def test_every_argument_is_torchs_with_equal_gradients(need_weights: bool, average: bool) -> None:
    torch.manual_seed(0)
    for given in calls():
        given |= {"need_weights": need_weights, "average_attn_weights": average}
        leaves = [value for value in given.values() if isinstance(value, torch.Tensor) and value.requires_grad]
        answers = []
        for function in (OWN, OURS):
            output, weights = function(**given)
            loss = output.square().sum() + (weights.square().sum() if need_weights else 0)
            answers.append((output, weights, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)))
        torch.testing.assert_close(answers[1], answers[0])


@pytest.mark.parametrize("settings", LAYERS, ids=str)
def test_torchs_own_layer_calls_it(settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    layer = torch.nn.MultiheadAttention(E, N, **settings)
    inputs = [torch.randn(B, length, width) for length, width in ((T, E), (S, layer.kdim), (S, layer.vdim))]
    inputs = inputs if layer.batch_first else [tensor.transpose(0, 1) for tensor in inputs]
    for need_weights, average in product((True, False), (True, False)):
        asked = {"need_weights": need_weights, "average_attn_weights": average}
        expected = layer(*inputs, **asked)
        with mock.patch.object(F, "multi_head_attention_forward", side_effect=OURS) as taken:
            torch.testing.assert_close(layer(*inputs, **asked), expected)
        assert taken.called


def test_errors_have_torchs_types_and_texts() -> None:
    mask = torch.zeros(T, S, dtype=torch.bool)
    broken = [
        call(num_heads=3),
        call(in_proj_weight=None),
        call(use_separate_proj_weight=True),
        call(use_separate_proj_weight=True, q_proj_weight=drawn(E, E)),
        call(use_separate_proj_weight=True, q_proj_weight=drawn(E, E), k_proj_weight=drawn(E, E)),
        call(bias_k=drawn(1, 1, E)),
        call(bias_v=drawn(1, 1, E)),
        call(bias_k=drawn(1, 1, E), bias_v=drawn(1, 1, E), static_k=drawn(B * N, S, E // N)),
        call(bias_k=drawn(1, 1, E), bias_v=drawn(1, 1, E), static_v=drawn(B * N, S, E // N), attn_mask=mask),
        call(is_causal=True),
        call(dropout_p=1.5),
    ]
    for given in broken:
        with pytest.raises((AssertionError, RuntimeError, ValueError)) as own:
            OWN(**given)
        with pytest.raises(own.type) as ours:
            OURS(**given)
        assert str(ours.value) == str(own.value)


def test_numpy_gives_the_same() -> None:
    torch.manual_seed(2)
    for given in calls():
        arrays = {name: value.detach().numpy() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
        output, weights = OWN(**given)
        ours = NUMPY(**arrays)
        np.testing.assert_allclose(ours[0], output.detach(), atol=1e-12)
        np.testing.assert_allclose(ours[1], weights.detach(), atol=1e-12)
        assert NUMPY(**arrays, need_weights=False)[1] is None


def test_gradients_in_numpy_have_the_shapes_that_were_given() -> None:
    torch.manual_seed(5)
    given = call(bias_k=drawn(E), bias_v=drawn(1, 1, E))
    (OWN(**given)[0].sum() + OWN(**given)[1].sum()).backward()
    arrays = {name: value.detach().numpy() if isinstance(value, torch.Tensor) else value for name, value in given.items()}
    gradients = NUMPY_VJP((np.ones((T, B, E)), np.ones((B, T, S + 1))), **arrays)
    for name in ("bias_k", "bias_v", "in_proj_weight", "key"):
        np.testing.assert_allclose(gradients[name], given[name].grad, atol=1e-12)


def test_dropout_follows_training() -> None:
    torch.manual_seed(3)
    given = call(dropout_p=0.5)
    dropped = OURS(**given, average_attn_weights=False)[1]
    whole = OURS(**given, average_attn_weights=False, training=False)[1]
    assert 0.2 < (dropped == 0).double().mean().item() < 0.8
    torch.testing.assert_close(dropped[dropped != 0], 2 * whole[dropped != 0])


def test_it_is_compiled_whole() -> None:
    """With the sizes that are Python's as constants; tensors that may be None are no break."""
    torch.manual_seed(4)
    for given in list(calls())[:3]:
        explained = torch._dynamo.explain(OURS)(**given)
        assert explained.graph_break_count == 0
        torch._dynamo.reset()
