"""Layers: one set of weights for every target, the documented initial distributions, and what dropout may do to the weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compiling import GENERATED, imported

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.xdist_group("layers")

FILE = "keras_layers_group_query_attention"
NUMPY, JAX, TORCH = (imported(GENERATED / target / f"{FILE}.py") for target in ("numpy", "jax", "torch"))
SIZES: dict[str, Any] = {"head_dim": 8, "num_query_heads": 4, "num_key_value_heads": 2}
Weights = dict[str, np.ndarray]
Call = Callable[..., Any]


def test_a_size_may_be_that_of_an_input_or_a_sequence_of_one() -> None:
    """keras.layers.MultiHeadAttention makes as many features as query has, unless `output_shape` says otherwise."""
    module = imported(GENERATED / "numpy" / "keras_layers_multi_head_attention.py")
    heads, query = {"num_heads": 2, "key_dim": 3}, np.ones((1, 4, 5))
    for output_shape, features in ((None, 5), (7, 7), ((7,), 7)):
        settings = heads | {"output_shape": output_shape, "attention_axes": (1,)}
        params = module.multi_head_attention_init(np.random.default_rng(0), **settings, E=5)
        assert module.multi_head_attention(params, query, query, **settings).shape == (1, 4, features)
    with pytest.raises(ValueError, match="M = 5 is bound by `output_shape`"):
        module.multi_head_attention(params, query, query, **heads)
    settings = heads | {"output_shape": (7, 2)}
    params = module.multi_head_attention_init(np.random.default_rng(0), **settings, E=5)
    assert params["attention_output_kernel"].shape == (2, 3, 7, 2)
    assert module.multi_head_attention(params, query, query, **settings).shape == (1, 4, 7, 2)
    gradients = module.multi_head_attention_vjp(np.ones((1, 4, 7, 2)), params, query, query, **settings)
    assert gradients["attention_output_kernel"].shape == (2, 3, 7, 2)


def test_a_mask_of_numbers_hides_where_it_is_0() -> None:
    """keras.layers.MultiHeadAttention takes numbers for True and False, and a mask by head beside none of padding."""
    module = imported(GENERATED / "numpy" / "keras_layers_multi_head_attention.py")
    heads, rng = {"num_heads": 2, "key_dim": 3}, np.random.default_rng(0)
    params, query = module.multi_head_attention_init(rng, **heads, E=5), rng.standard_normal((2, 4, 5))
    mask = rng.random((2, 2, 4, 4)) < 0.6
    by_head = module.multi_head_attention(params, query, query, **heads, attention_mask=mask)
    for number in (mask * 2, mask * -0.5):
        assert np.array_equal(module.multi_head_attention(params, query, query, **heads, attention_mask=number), by_head)
    with pytest.raises(ValueError, match="`attention_mask` must be bool, got dtype complex128"):
        module.multi_head_attention(params, query, query, **heads, attention_mask=mask * 1j)
    with pytest.raises(ValueError, match="with an axis of heads cannot be combined with `query_mask`"):
        module.multi_head_attention(params, query, query, **heads, attention_mask=mask, value_mask=mask[:, 0, 0])


def by_numpy(params: Weights, settings: dict[str, Any], **call: Any) -> Any:
    return NUMPY.group_query_attention(params, **call, **settings)


def by_jax(params: Weights, settings: dict[str, Any], **call: Any) -> Any:
    return JAX.group_query_attention(params, **call, **settings)


def by_torch(params: Weights, settings: dict[str, Any], **call: Any) -> Any:
    E, D = params["query_kernel"].shape[0], params["key_kernel"].shape[0]
    layer = TORCH.GroupQueryAttention(**settings, E=E, D=D).eval()
    layer.load_state_dict({name: torch.from_numpy(weight) for name, weight in params.items()})
    tensors = {n: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for n, x in call.items()}
    with torch.no_grad():
        return layer(**tensors)


ALL = pytest.mark.parametrize("target", [by_numpy, by_jax, by_torch], ids=["numpy", "jax", "torch"])


@pytest.mark.parametrize("settings", [{}, {"use_gate": True}, {"use_bias": False, "sliding_window": 2}], ids=str)
@pytest.mark.parametrize("scores", [False, True])
def test_weights_are_interchangeable(settings: dict[str, Any], scores: bool) -> None:
    random = np.random.default_rng(0)
    settings = SIZES | settings
    params = NUMPY.group_query_attention_init(random, **settings, E=12, D=5)
    drawn = JAX.group_query_attention_init(jax.random.key(0), **settings, E=12, D=5)
    state = TORCH.GroupQueryAttention(**settings, E=12, D=5).state_dict()
    assert list(params) == list(drawn) == list(state)
    assert {n: w.shape for n, w in params.items()} == {n: w.shape for n, w in drawn.items()}
    assert {n: w.shape for n, w in params.items()} == {n: tuple(w.shape) for n, w in state.items()}
    query, value, key = (random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 12), (2, 5, 12), (2, 5, 5)))
    call = {"query": query, "value": value, "key": key, "use_causal_mask": True, "return_attention_scores": scores}
    every = [target(params, settings, **call) for target in (by_numpy, by_jax, by_torch)]
    for output, *others in zip(*every, strict=True) if scores else [every]:
        for other in others:
            np.testing.assert_allclose(np.asarray(other), output, atol=1e-6)


def drawn(target: str, **settings: Any) -> Weights:
    if target == "torch":
        torch.manual_seed(3)
        return {name: weight.numpy() for name, weight in TORCH.GroupQueryAttention(**settings).state_dict().items()}
    if target == "jax":
        made = JAX.group_query_attention_init(jax.random.key(3), **settings)
        return {name: np.asarray(weight) for name, weight in made.items()}
    made = NUMPY.group_query_attention_init(np.random.default_rng(3), **settings)
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize("target", ["numpy", "jax", "torch"])
def test_kernels_are_uniform_with_the_fans_of_what_the_layer_sums_over_and_makes(target: str) -> None:
    """`D -> N * H` and not the fans of a convolution: by moments, and by the largest distance of the distributions."""
    params = drawn(target, head_dim=16, num_query_heads=8, num_key_value_heads=4, use_gate=True, E=48, D=40)
    fans = {"query": (48, 128), "key": (40, 64), "gate": (48, 128), "value": (48, 64), "attention_output": (128, 48)}
    for name, fan in fans.items():
        kernel = np.sort(params[f"{name}_kernel"].ravel().astype(np.float64))
        limit = (6 / sum(fan)) ** 0.5
        assert -limit <= kernel[0] < -0.99 * limit
        assert 0.99 * limit < kernel[-1] <= limit
        assert abs(kernel.mean()) < 5 * limit / (3 * kernel.size) ** 0.5
        expected = (kernel / limit + 1) / 2
        distance = np.abs(expected - (np.arange(kernel.size) + 0.5) / kernel.size).max()
        assert distance < 2.2 / kernel.size**0.5  # Kolmogorov-Smirnov: exceeded by one in 8,000 true ones
    assert all((weight == 0).all() for name, weight in params.items() if name.endswith("bias"))


@pytest.mark.parametrize("target", ["numpy", "jax", "torch"])
def test_only_the_documented_initialisers_are_taken(target: str) -> None:
    with pytest.raises(NotImplementedError, match="`kernel_regularizer` must be None here, got 'l2'"):
        drawn(target, **SIZES, E=4, kernel_regularizer="l2")
    with pytest.raises(ValueError, match="must be divisible by"):
        drawn(target, head_dim=2, num_query_heads=3, num_key_value_heads=2, E=4)


# -- dropout: one head whose projections are the identity, and values that are one too: the output is the weights ---


def transparent(keys: int) -> tuple[Weights, dict[str, Any], dict[str, np.ndarray]]:
    """Weights, settings and call of a layer that returns its dropped weights."""
    identity = np.eye(keys, dtype=np.float32)
    params = {
        "query_kernel": np.zeros((keys, 1, keys), np.float32),
        "key_kernel": np.zeros((keys, 1, keys), np.float32),
        "value_kernel": identity[:, None, :],
        "attention_output_kernel": identity[None],
    }
    settings = {"head_dim": keys, "num_query_heads": 1, "num_key_value_heads": 1, "use_bias": False}
    inputs = {"query": np.zeros((8, 50, keys), np.float32), "value": np.broadcast_to(identity, (8, keys, keys)).copy()}
    return params, settings, inputs


@ALL
def test_dropout_zeroes_a_share_of_the_weights_and_rescales_the_rest(target: Call) -> None:
    keys, rate = 32, 0.25
    params, settings, inputs = transparent(keys)
    settings |= {"dropout": rate, "seed": 5}
    output, scores = target(params, settings, **inputs, training=True, return_attention_scores=True)
    kept = np.asarray(output) != 0
    np.testing.assert_allclose(np.asarray(output)[kept], 1 / keys / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / kept.size) ** 0.5
    np.testing.assert_allclose(np.asarray(scores), 1 / keys, rtol=1e-6)  # before dropout
    assert kept.any(axis=(0, 1)).all()  # no position, row or example is
    assert not kept.all(axis=(0, 1)).any()  # dropped or kept as a whole


@ALL
def test_the_seed_and_the_training_flag_decide(target: Call) -> None:
    params, settings, inputs = transparent(16)
    settings |= {"dropout": 0.5}
    one, same, other = (np.asarray(target(params, settings | {"seed": seed}, **inputs, training=True)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    for training in (False, None):
        np.testing.assert_allclose(np.asarray(target(params, settings, **inputs, training=training)), 1 / 16, rtol=1e-6)
    nothing = target(params, settings | {"dropout": 1.0, "seed": 1}, **inputs, training=True)
    assert (np.asarray(nothing) == 0).all()


def masks_of(forward: np.ndarray, gradient: np.ndarray) -> None:
    """The gradient of the values holds the same share of every weight: the mask of the forward pass."""
    np.testing.assert_allclose(gradient, forward.sum(axis=1)[:, :, None] * np.ones(forward.shape[-1]), rtol=1e-5)


def test_forward_and_backward_share_one_mask() -> None:
    params, settings, inputs = transparent(12)
    settings |= {"dropout": 0.5, "seed": 9}
    call = {**inputs, "training": True}
    output = NUMPY.group_query_attention(params, **call, **settings)
    masks_of(output, NUMPY.group_query_attention_vjp(np.ones_like(output), params, **call, **settings)["value"])
    with pytest.raises(NotImplementedError, match="numpy: the vjp of dropout needs `seed`, which the forward call had"):
        NUMPY.group_query_attention_vjp(np.ones_like(output), params, **call, **settings | {"seed": None})

    def applied(value: Any) -> Any:
        return JAX.group_query_attention(params, inputs["query"], value, training=True, **settings)

    by_jax_too, pull = jax.vjp(applied, inputs["value"])
    masks_of(np.asarray(by_jax_too), np.asarray(pull(np.ones_like(by_jax_too))[0]))
    layer = TORCH.GroupQueryAttention(**settings, E=12)
    layer.load_state_dict({name: torch.from_numpy(weight) for name, weight in params.items()})
    value = torch.from_numpy(inputs["value"]).requires_grad_()
    by_torch_too = layer(torch.from_numpy(inputs["query"]), value)
    by_torch_too.sum().backward()
    masks_of(by_torch_too.detach().numpy(), value.grad.numpy())


def test_a_module_draws_anew_in_every_call_and_follows_its_mode() -> None:
    params, settings, inputs = transparent(16)
    layer = TORCH.GroupQueryAttention(**settings, dropout=0.5, seed=4, E=16)
    layer.load_state_dict({name: torch.from_numpy(weight) for name, weight in params.items()})
    tensors = [torch.from_numpy(inputs[name]) for name in ("query", "value")]
    again = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer.state_dict()))
    first, second = layer(*tensors), layer(*tensors)
    assert (first != second).any()
    torch.testing.assert_close(again[0](*tensors), first)  # the copy took the state of the generator along
    torch.testing.assert_close(layer.eval()(*tensors), torch.full((8, 50, 16), 1 / 16))
    assert (layer(*tensors, training=True) == 0).any()
    assert list(again[1]) == list(params)


def test_jax_needs_a_seed_to_drop_and_takes_a_traced_one() -> None:
    params, settings, inputs = transparent(8)
    settings |= {"dropout": 0.5}
    with pytest.raises(NotImplementedError, match="jax: dropout needs a `seed`"):
        JAX.group_query_attention(params, **inputs, training=True, **settings)
    step = jax.jit(lambda seed: JAX.group_query_attention(params, **inputs, training=True, **settings, seed=seed))
    assert (step(1) != step(2)).any()
    dropped = settings | {"dropout": 1.0, "seed": 1}

    def total(value: Any) -> Any:
        return JAX.group_query_attention(params, inputs["query"], value, training=True, **dropped).sum()

    assert (np.asarray(jax.grad(total)(inputs["value"])) == 0).all()
