"""The generated torch.nn.MultiheadAttention in the place of torch's own: weights, attributes, encoder layers, gradients."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import pytest

from compiling import GENERATED, imported

torch = pytest.importorskip("torch")
nn = torch.nn

FILE = "torch_nn_multihead_attention"
TORCH = imported(GENERATED / "torch" / f"{FILE}.py")
NUMPY = imported(GENERATED / "numpy" / f"{FILE}.py")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 6, "vdim": 10, "batch_first": True},
    {"kdim": 6, "bias": False, "add_bias_kv": True},
    {"batch_first": True},
]


def pair(**settings: Any) -> tuple[Any, Any]:
    """torch's own layer and the generated one, with torch's weights."""
    torch.manual_seed(3)
    own = nn.MultiheadAttention(8, 2, **settings)
    for weight in own.parameters():
        nn.init.normal_(weight, std=0.5)
    ours = TORCH.MultiheadAttention(8, 2, **settings)
    assert not any(ours.load_state_dict(own.state_dict()))
    return own, ours


def inputs(own: Any, batch: int = 3) -> list[Any]:
    shapes = ((4, own.embed_dim), (5, own.kdim), (5, own.vdim))
    axes = 0 if own.batch_first else 1
    return [torch.randn(shape).unsqueeze(axes).repeat_interleave(batch, axes) for shape in shapes]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_checkpoints_load_both_ways_with_equal_outputs_and_gradients(settings: dict[str, Any]) -> None:
    own, ours = pair(**settings, dtype=torch.float64)
    assert list(own.state_dict()) == list(ours.state_dict())
    assert {k: v.shape for k, v in own.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    back = nn.MultiheadAttention(8, 2, **settings, dtype=torch.float64)
    back.load_state_dict(ours.state_dict(), strict=True)
    for weights, average in product((True, False), (True, False)):
        given = [tensor.double() for tensor in inputs(own)]
        expected, *others = (answered(layer, given, weights, average) for layer in (own, ours, back))
        for other in others:
            torch.testing.assert_close(other, expected)


def answered(layer: Any, given: list[Any], weights: bool, average: bool) -> tuple[Any, ...]:
    """Outputs, and the gradients of inputs and weights."""
    tensors = [tensor.clone().requires_grad_() for tensor in given]
    output, attended = layer(*tensors, need_weights=weights, average_attn_weights=average)
    layer.zero_grad()
    (output.square().sum() + (attended.square().sum() if weights else 0)).backward()
    return output, attended, [tensor.grad for tensor in tensors], {n: weight.grad for n, weight in layer.named_parameters()}


def test_attributes_are_torchs() -> None:
    for settings in SETTINGS:
        own, ours = pair(**settings)
        for name in ("embed_dim", "num_heads", "head_dim", "dropout", "kdim", "vdim", "batch_first", "add_zero_attn"):
            assert getattr(ours, name) == getattr(own, name)
        assert ours._qkv_same_embed_dim == own._qkv_same_embed_dim
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "bias_k", "bias_v"):
            assert (getattr(ours, name) is None) == (getattr(own, name) is None)
        assert (ours.out_proj.bias is None) == (own.out_proj.bias is None)


def test_the_last_projection_is_the_linear_layer_that_torchs_is() -> None:
    """Quantisation and parametrisations look for it; what they put in the place of its weight is what counts."""
    own, ours = pair()
    assert type(ours.out_proj) is type(own.out_proj)
    assert (ours.out_proj.in_features, ours.out_proj.out_features) == (8, 8)
    query = torch.randn(4, 3, 8)
    for layer in (own, ours):
        nn.utils.parametrize.register_parametrization(layer.out_proj, "weight", Doubled())
        nn.utils.parametrize.register_parametrization(layer, "in_proj_weight", Doubled())
    torch.testing.assert_close(ours(query, query, query), own(query, query, query))
    torch.testing.assert_close(
        *(torch.func.functional_call(layer, dict(layer.named_parameters()), (query,) * 3) for layer in (own, ours))
    )


class Doubled(nn.Module):
    def forward(self, weight: Any) -> Any:
        return 2 * weight


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_one_seed_draws_the_weights_that_torch_draws(settings: dict[str, Any]) -> None:
    own, ours = (
        (torch.manual_seed(5), layer(8, 2, **settings))[1] for layer in (nn.MultiheadAttention, TORCH.MultiheadAttention)
    )
    torch.testing.assert_close(ours.state_dict(), own.state_dict())
    for layer in (own, ours):
        torch.manual_seed(6)
        layer._reset_parameters()
    torch.testing.assert_close(ours.state_dict(), own.state_dict())


@pytest.mark.parametrize("masks", list(product((None, 2, 3), (False, True))), ids=str)
def test_masks_merge_as_torchs_do(masks: tuple[int | None, bool]) -> None:
    own, ours = pair(batch_first=True)
    rank, padding = masks
    query = torch.randn(3, 4, 8)
    mask = None if rank is None else torch.randn((4, 4) if rank == 2 else (6, 4, 4))
    padded = torch.randn(3, 4) if padding else None
    expected, got = own.merge_masks(mask, padded, query), ours.merge_masks(mask, padded, query)
    assert got[1] == expected[1]
    torch.testing.assert_close(got[0], expected[0])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_encoder_layers_take_it_in_training_and_evaluation(norm_first: bool, training: bool, masked: bool) -> None:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    swapped = copy.deepcopy(encoder)
    for each in swapped.layers:
        ours = TORCH.MultiheadAttention(8, 2, batch_first=True)
        ours.load_state_dict(each.self_attn.state_dict())
        each.self_attn = ours.train(training)
    assert {*encoder.state_dict()} == {*swapped.state_dict()}
    source = torch.randn(3, 5, 8)
    call: dict[str, Any] = {}
    if masked:
        call = {"mask": torch.ones(5, 5, dtype=torch.bool).triu(1), "is_causal": True}
        call["src_key_padding_mask"] = torch.arange(5)[None] >= torch.tensor([[5], [4], [3]])
    torch.testing.assert_close(swapped(source, **call), encoder(source, **call))
    with torch.no_grad():
        torch.testing.assert_close(swapped(source, **call), encoder(source, **call))
    swapped(source, **call).sum().backward()
    assert all(weight.grad is not None for weight in swapped.parameters())


def test_encoder_layers_take_their_own_fast_path_with_it() -> None:
    """It reads the weights, masks and sizes off the attention, and never calls it."""
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    swapped = copy.deepcopy(layer)
    swapped.self_attn = TORCH.MultiheadAttention(8, 2, dropout=0.1, batch_first=True).eval()
    swapped.load_state_dict(layer.state_dict())
    source, mask = torch.randn(3, 5, 8), torch.ones(5, 5, dtype=torch.bool).triu(1)
    padded = torch.arange(5)[None] >= torch.tensor([[5], [4], [3]])
    fast = torch._transformer_encoder_layer_fwd
    with torch.no_grad(), mock.patch.object(torch, "_transformer_encoder_layer_fwd", side_effect=fast) as taken:
        for call in (
            {},
            {"src_mask": mask},
            {"src_key_padding_mask": padded},
            {"src_mask": mask, "src_key_padding_mask": padded},
        ):
            torch.testing.assert_close(swapped(source, **call), layer(source, **call))
    assert taken.call_count == 8


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_layers_take_it(norm_first: bool) -> None:
    torch.manual_seed(2)
    layer = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, norm_first=norm_first)
    swapped = copy.deepcopy(layer)
    for name in ("self_attn", "multihead_attn"):
        setattr(swapped, name, TORCH.MultiheadAttention(8, 2))
    assert not any(swapped.load_state_dict(layer.state_dict()))
    target, memory = torch.randn(4, 3, 8), torch.randn(5, 3, 8)
    padded = torch.arange(5)[None] >= torch.tensor([[5], [4], [3]])
    call = {
        "tgt_mask": nn.Transformer.generate_square_subsequent_mask(4),
        "tgt_is_causal": True,
        "memory_key_padding_mask": padded,
    }
    results = [each(target, memory, **call) for each in (layer, swapped)]
    torch.testing.assert_close(results[1], results[0])
    for result in results:
        result.square().sum().backward()
    gradients = [{name: weight.grad for name, weight in each.named_parameters()} for each in (layer, swapped)]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_paths_disagree_on_queries_that_attend_to_nothing_as_torchs_do() -> None:
    own, ours = pair(batch_first=True)
    query = torch.randn(1, 3, 8)
    mask = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])
    for layer in (own, ours):
        assert layer(query, query, query, attn_mask=mask)[0][0, 0].isnan().all()
        torch.testing.assert_close(layer(query, query, query, attn_mask=mask, need_weights=False)[0][0, 0], layer.out_proj.bias)


def test_torchs_fast_path_is_taken_by_the_calls_that_the_spec_says_and_ignores_the_hint() -> None:
    """What the known deviations of the fast path rest on."""
    own, ours = pair(batch_first=True)
    own.eval(), ours.eval()
    query, everything = torch.randn(2, 3, 8), torch.zeros(3, 3, dtype=torch.bool)
    fast = torch._native_multi_head_attention
    with torch.no_grad(), mock.patch.object(torch, "_native_multi_head_attention", side_effect=fast) as taken:
        own(query, query.clone(), query)
        assert not taken.called
        plain = own(query, query, query, need_weights=False)[0]
        hinted = own(query, query, query, attn_mask=everything, is_causal=True, need_weights=False)[0]
        assert taken.call_count == 2
        own(query, query, query, is_causal=True)  # an error on the slow path
    torch.testing.assert_close(hinted, plain)
    causal = ours(query, query, query, attn_mask=everything, is_causal=True, need_weights=False)[0]
    assert not torch.allclose(causal, plain)
    with pytest.raises(RuntimeError, match="Need attn_mask if specifying the is_causal hint"):
        ours(query, query, query, is_causal=True)


@pytest.mark.parametrize("rank", [2, 3])
def test_unbatched_inputs(rank: int) -> None:
    own, ours = pair(add_bias_kv=True)
    query, key = torch.randn(4, 8), torch.randn(5, 8)
    mask = torch.zeros((2, 4, 5) if rank == 3 else (4, 5), dtype=torch.bool)
    mask[..., 2] = True
    call = {"key_padding_mask": torch.tensor([False, True, False, False, False]), "attn_mask": mask}
    for average in (True, False):
        results = [layer(query, key, key, **call, average_attn_weights=average) for layer in (own, ours)]
        torch.testing.assert_close(results[1], results[0])
    with pytest.raises(AssertionError, match="`key_padding_mask` must lack the leading axis"):
        ours(query, key, key, key_padding_mask=torch.zeros(1, 5, dtype=torch.bool))


def test_errors_are_torchs() -> None:
    own, ours = (type(layer) for layer in pair())
    calls: list[tuple[type, Any]] = [
        (ValueError, lambda layer: layer(0, 1)),
        (ValueError, lambda layer: layer(4, -1)),
        (AssertionError, lambda layer: layer(8, 3)),
        (AssertionError, lambda layer: layer(8, 2)(torch.zeros(1, 2, 3, 8), torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))),
        (AssertionError, lambda layer: layer(8, 2)(torch.zeros(3, 8), torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))),
        (AssertionError, lambda layer: layer(8, 2)(*[torch.zeros(2, 3, 8)] * 3, torch.zeros(3, 2, dtype=torch.int32))),
        (RuntimeError, lambda layer: layer(8, 2)(*[torch.zeros(2, 3, 8)] * 3, is_causal=True)),
    ]
    for error, call in calls:
        for layer in (own, ours):
            with pytest.raises(error):
                call(layer)


def test_initial_weights_have_torchs_distributions() -> None:
    torch.manual_seed(0)
    E = 96
    packed = TORCH.MultiheadAttention(E, 4, add_bias_kv=True)
    drawn = NUMPY.multihead_attention_init(np.random.default_rng(0), embed_dim=E, num_heads=4, add_bias_kv=True)
    apart = TORCH.MultiheadAttention(E, 4, kdim=48)
    uniform = [
        (packed.in_proj_weight, (6 / (4 * E)) ** 0.5),  # the fans of the packed matrix: E and 3 E
        (drawn["in_proj_weight"], (6 / (4 * E)) ** 0.5),
        (packed.out_proj.weight, E**-0.5),
        (drawn["out_proj_weight"], E**-0.5),
        (apart.q_proj_weight, (6 / (2 * E)) ** 0.5),
        (apart.k_proj_weight, (6 / (48 + E)) ** 0.5),
    ]
    for weight, limit in uniform:
        values = np.asarray(weight.detach() if isinstance(weight, torch.Tensor) else weight)
        assert 0.99 * limit < values.max() <= limit and -limit <= values.min() < -0.99 * limit
        assert abs(values.std() - limit / 3**0.5) < 0.02 * limit
    normal = torch.cat([TORCH.MultiheadAttention(E, 4, add_bias_kv=True).bias_k.flatten() for _ in range(40)])
    assert abs(normal.std().item() * E**0.5 - 1) < 0.06
    for bias in (packed.in_proj_bias, packed.out_proj.bias, drawn["in_proj_bias"]):
        assert (np.asarray(bias.detach() if isinstance(bias, torch.Tensor) else bias) == 0).all()


def test_dropout_follows_the_mode_and_reaches_the_returned_weights() -> None:
    torch.manual_seed(0)
    ours = TORCH.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    query = torch.randn(4, 16, 8)
    weights = ours(query, query, query, average_attn_weights=False)[1]
    share = (weights == 0).float().mean().item()
    assert abs(share - 0.5) < 0.06
    kept = weights[weights != 0]
    whole = ours.eval()(query, query, query, average_attn_weights=False)[1]
    torch.testing.assert_close(kept, 2 * whole[weights != 0])
    torch.testing.assert_close(whole.sum(-1), torch.ones(4, 2, 16))


def test_placement_is_torchs() -> None:
    ours = TORCH.MultiheadAttention(8, 2, dtype=torch.float64, device="meta")
    assert {weight.dtype for weight in ours.parameters()} == {torch.float64}
    assert {weight.device.type for weight in ours.parameters()} == {"meta"}


def test_numpy_takes_a_checkpoint_with_dots_as_underscores() -> None:
    own, _ = pair(kdim=6, vdim=10)
    params = {name.replace(".", "_"): weight.numpy() for name, weight in own.state_dict().items()}
    tensors = inputs(own)
    arrays = [tensor.numpy() for tensor in tensors]
    output, weights = NUMPY.multihead_attention(params, *arrays, embed_dim=8, num_heads=2, kdim=6, vdim=10)
    expected = own(*tensors)
    np.testing.assert_allclose(output, expected[0].detach(), atol=1e-5)
    np.testing.assert_allclose(weights, expected[1].detach(), atol=1e-5)
    assert NUMPY.multihead_attention(params, *arrays, need_weights=False, embed_dim=8, num_heads=2, kdim=6, vdim=10)[1] is None
