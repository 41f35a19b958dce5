"""Generated Pallas kernels, interpreted and lowered: what the lane does not ask of them."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

import in_shards
from attnspec.harness.subjects import generated, load
from attnspec.spec.loader import find
from triton_of_pallas import exported, kernels

pytestmark = pytest.mark.xdist_group("jax")
JAX_NN, KERAS = "jax.nn.dot_product_attention", "keras.ops.dot_product_attention"
SDPA = "torch.nn.functional.scaled_dot_product_attention"
IN_HASTE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
Arrays = dict[str, Any]


def kernel(name: str) -> Callable[..., jax.Array]:
    """The function in small blocks, its kernels interpreted."""
    function = load(next(generated(find(name), "pallas"))).function
    vars(function).get("__wrapped__", function).__globals__["INTERPRET"] = True
    return function


def on_gpus(name: str) -> Callable[..., jax.Array]:
    """The function as it is."""
    spec = find(name)
    module = importlib.import_module(f"attnspec.generated.pallas.{spec.module_name}")
    return getattr(module, spec.function_name)  # type: ignore[no-any-return]


def direct(name: str) -> Callable[..., Arrays]:
    """The gradients of the direct form in NumPy."""
    vjp = load(next(generated(find(name), "numpy"))).vjp
    assert vjp is not None
    return vjp


def arrays(T: int, S: int, N: int, K: int, H: int, V: int) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(T * 100 + S)
    return tuple(generator.standard_normal(shape) for shape in ((2, T, N, H), (2, S, K, H), (2, S, K, V), (2, T, N, V)))


def pulled(function: Callable[..., jax.Array], **arguments: Any) -> Callable[..., tuple[jax.Array, ...]]:
    """The gradients of query, key and value."""

    def pull(query: jax.Array, key: jax.Array, value: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vjp(lambda *given: function(*given, **arguments), query, key, value)[1](cotangent)  # type: ignore[no-any-return]

    return pull


def test_a_mapped_axis_is_one_more_of_the_grid() -> None:
    """Forward and backward, under jit, with a head dim and lengths that blocks do not divide."""
    query, key, value, cotangent = arrays(17, 21, 4, 2, 20, 12)
    pull = pulled(kernel("gemma2"), left=9, cap=2.0)
    mapped = jax.jit(jax.vmap(lambda *given: pull(*given)[0], (0, None, None, None)), compiler_options=IN_HASTE)
    found = mapped(*(jnp.asarray(array, jnp.float32) for array in (np.stack([query, -query]), key, value, cotangent)))
    for place, sign in enumerate((1, -1)):
        wanted = direct("gemma2")(cotangent, sign * query, key, value, left=9, cap=2.0)
        np.testing.assert_allclose(found[place], wanted["query"], atol=1e-5)


def test_what_is_shared_out_over_devices_is_within_the_bound_of_one() -> None:
    """Batch rows, heads and a sequence in shards; and one with lengths, a window and rows that see nothing on any device."""
    found = in_shards.run("pallas", 8, "heads", "lengths")
    assert found.keys() == {"heads", "lengths"}
    assert all(ratio <= 1 for each in found.values() for ratio in each.values())


def test_dropout_draws_the_same_backward() -> None:
    """Values of one-hot rows show the weights themselves; a reference with that very mask has the same gradients."""
    query, key, _, cotangent = (jnp.asarray(a.swapaxes(1, 2), jnp.float32) for a in arrays(17, 33, 4, 2, 8, 33))
    value, weights = jnp.broadcast_to(jnp.eye(33), (2, 2, 33, 33)), jax.nn.softmax(query @ jnp.repeat(key, 2, 1).mT / 8**0.5)
    seeded = vars(sys.modules[kernel(SDPA).__module__])["scaled_dot_product_attention_seeded"]

    def pull(seed: jax.Array, *tensors: jax.Array) -> tuple[jax.Array, Any]:
        output, back = jax.vjp(lambda *given: seeded(seed)(*given, dropout_p=0.25, enable_gqa=True), *tensors)
        return output, back(cotangent)

    pull = jax.jit(pull, compiler_options=IN_HASTE)
    dropped, found = pull(jnp.int32(0), query, key, value)
    mask = (dropped != 0) / 0.75
    np.testing.assert_allclose(dropped, weights * mask, atol=1e-6)
    assert abs(float((dropped != 0).mean()) - 0.75) < 0.03  # five deviations of 4,488 draws
    assert jnp.array_equal(pull(jnp.int32(0), query, key, value)[0], dropped)
    for other in (pull(jnp.int32(1), query, key, value)[0] != 0, mask[::-1] != 0, mask[:, ::-1] != 0):  # seeds, rows, heads
        assert 0.3 < float((other != (dropped != 0)).mean()) < 0.45

    def masked(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        key, value = (jnp.repeat(each, 2, 1) for each in (key, value))
        return (jax.nn.softmax(query @ key.mT / 8**0.5) * mask) @ value

    for one, other in zip(found, jax.vjp(masked, query, key, value)[1](cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_draws_are_those_of_threefry() -> None:
    draw = vars(sys.modules[kernel(SDPA).__module__])["_drawn"]
    t, s = (jnp.broadcast_to(each, (5, 7)).astype(jnp.uint32) for each in (jnp.arange(5)[:, None], jnp.arange(7)))
    words, _ = threefry2x32_p.bind(jnp.uint32(12345), jnp.uint32(0), t, s)
    assert jnp.array_equal(draw(jnp.int32(12345), jnp.arange(5)[:, None], jnp.arange(7)[None]), (words >> 8) * 2.0**-24)


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0)])
def test_sizes_of_none_have_zeros(T: int, S: int) -> None:
    query, key, value, cotangent = (jnp.asarray(array, jnp.float32) for array in arrays(T, S, 2, 1, 4, 3))
    output = kernel("causal_gqa")(query, key, value)
    assert output.shape == cotangent.shape
    assert not output.any()
    assert not any(gradient.any() for gradient in pulled(kernel("causal_gqa"))(query, key, value, cotangent))


def test_what_no_kernel_can_do_is_refused_with_the_reason() -> None:
    def called(name: str, dtype: str = "float32", H: int = 4, **arguments: Any) -> jax.Array:
        return kernel(name)(*(jnp.ones((1, 3, 1, H), dtype) for _ in range(3)), **arguments)

    with (
        jax.enable_x64(True),
        pytest.raises(NotImplementedError, match="float64 is not supported; float16, bfloat16 and float32"),
    ):
        called("causal_gqa", "float64")
    with (
        jax.enable_x64(True),
        pytest.raises(NotImplementedError, match="jax_enable_x64 is not supported where kernels are interp"),
    ):
        called("causal_gqa")
    with pytest.raises(NotImplementedError, match="head dims 257 and 257 are not supported; 1 to 256 are"):
        called("causal_gqa", H=257)
    with pytest.raises(NotImplementedError, match="head dims 0 and 4 are not supported"):
        kernel("causal_gqa")(*(jnp.ones((1, 3, 1, width)) for width in (0, 0, 4)), scale=1.0)
    with pytest.raises(NotImplementedError, match="`left` = 2147483647 is not supported; kernels count in 32 bits"):
        called("gemma2", left=2**31 - 1)
    with pytest.raises(NotImplementedError, match=r"dropout needs a seed, another one in every step: scaled_.*_seeded\(seed\)"):
        called(SDPA, dropout_p=0.5)
    with pytest.raises(NotImplementedError, match="pallas: `attn_mask` is not supported where a sequence is in shards"):
        vars(sys.modules[kernel(SDPA).__module__])["scaled_dot_product_attention_ring"]("s")(
            *(jnp.ones((1, 3, 4)) for _ in range(3)), attn_mask=jnp.ones((3, 3))
        )
    with pytest.raises(NotImplementedError, match="a traced `scale` is not supported; it is a part of the kernels"):
        jax.jit(lambda scale: called("gemma2", scale=scale))(0.5)


def shape(*sizes: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


B, T, S, N, K = 2, 1000, 1030, 8, 2  # grouped heads, queries and keys that blocks do not divide
PAIRS = {"bias": shape(1, N, T, S, dtype="bfloat16"), "mask": shape(B, 1, 1, S, dtype="bool")}
LENGTHS = {f"{name}_seq_lengths": shape(B, dtype="int32") for name in ("query", "key_value")}
SEGMENTS = {"query_segment_ids": shape(B, T, dtype="int32"), "key_value_segment_ids": shape(B, S, dtype="int32")}
CALLS: list[tuple[str, dict[str, jax.ShapeDtypeStruct], dict[str, Any]]] = [
    ("causal_gqa", {}, {}),
    ("gemma2", {}, {"left": 300}),
    ("longformer", {}, {"left": 300, "right": 20}),
    ("packed_documents", SEGMENTS, {}),
    (JAX_NN, PAIRS | LENGTHS, {"is_causal": True, "local_window_size": (300, 0)}),
    (KERAS, PAIRS, {"is_causal": True}),
    (SDPA, {"attn_mask": shape(N, 1, S)}, {"enable_gqa": True}),
]


@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_a_sequence_in_shards_is_lowered_for_gpus(platform: str) -> None:
    module = importlib.import_module("attnspec.generated.pallas.packed_documents")
    floating = [shape(B, 8 * length, heads, 64, dtype="bfloat16") for length, heads in ((T, N), (S, K), (S, K))]
    ids = {name: shape(B, 8 * length, dtype="int32") for name, length in zip(SEGMENTS, (T, S), strict=True)}
    ring = in_shards.ring_gradients(module, "packed_documents", jax.sharding.AbstractMesh((8,), ("s",)))
    text = exported(ring, platform, floating, ids)
    assert kernels(text).keys() == {"_forward_kernel", "_query_gradient_kernel", "_key_gradients_kernel"}
    assert text.count("stablehlo.collective_permute") == 3 + 5  # keys, values and ids; backward, two gradients too


@pytest.mark.parametrize(("platform", "dtype", "width"), [("cuda", "bfloat16", 128), ("rocm", "float32", 48)])
@pytest.mark.parametrize(("name", "others", "arguments"), CALLS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_kernel_is_lowered_for_gpus(
    name: str, others: Arrays, arguments: Arrays, platform: str, dtype: str, width: int
) -> None:
    """Those of the gradients, without a GPU and within seconds; T x S is nowhere but in a bias and its gradient."""
    function = on_gpus(name)
    sizes = ((B, T, N, width), (B, S, K, width), (B, S, K, width))
    tensors = [shape(*((b, n, t, h) if name == SDPA else (b, t, n, h)), dtype=dtype) for b, t, n, h in sizes]
    floating = {name: tensor for name, tensor in others.items() if jnp.issubdtype(tensor.dtype, jnp.floating)}
    fixed = {name: tensor for name, tensor in others.items() if name not in floating}

    def loss(tensors: list[jax.Array], floating: Arrays, fixed: Arrays) -> jax.Array:
        return function(*tensors, **floating, **fixed, **arguments).astype(jnp.float32).sum()

    started = time.process_time()
    text = exported(jax.jit(jax.grad(loss, (0, 1))), platform, tensors, floating, fixed)
    operands = {f"_{name}_gradient_kernel" for name in floating}
    assert kernels(text).keys() == {"_forward_kernel", "_query_gradient_kernel", "_key_gradients_kernel", *operands}
    assert time.process_time() - started < 20
    assert "bias" in floating or f"{T}x{S}x" not in text
