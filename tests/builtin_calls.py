"""Calls of the built-in specs, with what they should give, by hand: every option of each, in all the shapes it may have."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from by_hand import Arrays, combine, dot_logits, grid, hide, softmax
from capabilities import Example, Outputs

B, T, S, N, K, H, V = 2, 3, 5, 4, 2, 3, 6
SDPA, JAX_NN = "torch_nn_functional_scaled_dot_product_attention", "jax_nn_dot_product_attention"
KERAS_OPS = "keras_ops_dot_product_attention"
MHA_FORWARD = "torch_nn_functional_multi_head_attention_forward"
FUNCTIONS = {
    MHA_FORWARD: "multi_head_attention_forward",
    SDPA: "scaled_dot_product_attention",
    JAX_NN: "dot_product_attention",
    KERAS_OPS: "dot_product_attention",
}
Shapes = dict[str, tuple[int, ...]]

BTNH: Shapes = {"query": (B, T, N, H), "key": (B, S, K, H), "value": (B, S, K, V)}
SAME_HEAD: Shapes = {**BTNH, "value": (B, S, K, H)}
BNTH: Shapes = {"query": (B, N, T, H), "key": (B, N, S, H), "value": (B, N, S, V)}
GROUPED: Shapes = {"query": (B, N, T, H), "key": (B, K, S, H), "value": (B, K, S, V)}
MASK = np.random.default_rng(5).random((B, 1, T, S)) < 0.5
MASK[0, 0, 1] = False  # one row sees nothing
SEGMENTS = {
    "query_segment_ids": np.array([[0, 1, 7], [0, 0, 2]]),
    "key_value_segment_ids": np.array([[0, 1, 1, 1, 2], [0, 0, 2, 2, 2]]),
}


def function(module: str, target: str, suffix: str = "") -> Callable[..., Any]:
    """A generated function: `suffix` is `_vjp` for its gradient."""
    found = importlib.import_module(f"attnspec.generated.{target}.{module}")
    name = FUNCTIONS.get(module, module.removesuffix("_blockwise"))
    result: Callable[..., Any] = getattr(found, name + suffix)
    return result


def heads_last(array: np.ndarray) -> np.ndarray:
    """(..., N, T, H) as (B, T, N, H), any leading axes as one."""
    whole = array.reshape(-1, *array.shape[-3:]) if array.ndim > 2 else array[None, None]
    return whole.swapaxes(1, 2)


def sdpa(x: Arrays, is_causal: bool = False, scale: float | None = None, mask: np.ndarray | None = None) -> Outputs:
    """`F.scaled_dot_product_attention`: leading axes broadcast, masks hide or are added, empty rows are zero."""
    query, key, value = x["query"], x["key"], x["value"]
    leading = np.broadcast_shapes(*(a.shape[:-3] for a in (query, key, value)))
    full = [np.broadcast_to(a, (*leading, *a.shape[-3:])) if a.ndim > 2 else a for a in (query, key, value)]
    q, k, v = map(heads_last, full)
    logits = dot_logits(q, k, scale).reshape(*leading, q.shape[2], q.shape[1], k.shape[1])
    t, s = grid(q.shape[1], k.shape[1])
    logits = hide(logits, (s <= t) | (not is_causal))
    logits = logits if mask is None else hide(logits, mask)
    logits = logits + x.get("attn_mask", 0.0)
    weights = softmax(logits).reshape(-1, *logits.shape[-3:])
    output = combine(weights, v).swapaxes(1, 2)
    return (output.reshape(*leading, *output.shape[1:]) if query.ndim > 2 else output[0, 0],)


def jax_nn(x: Arrays, **options: Any) -> Outputs:
    """`jax.nn.dot_product_attention`: a finite fill, so that an empty row is uniform; rows past the query's length are zero."""
    batched = x["query"].ndim == 4
    q, k, v = (x[name] if batched else x[name][None] for name in ("query", "key", "value"))
    t, s = grid(q.shape[1], k.shape[1])
    logits = dot_logits(q, k, options.get("scale")) + x.get("bias", 0.0)
    left, right = options.get("local_window_size") or (s.size + t.size,) * 2
    visible = np.asarray((s <= t) | (not options.get("is_causal"))) & (t - s <= left) & (s - t <= right)
    rows = options.get("query_seq_lengths", np.full(q.shape[0], t.size))[:, None, None, None]
    columns = options.get("key_value_seq_lengths", np.full(q.shape[0], s.size))[:, None, None, None]
    visible = visible & (t < rows) & (s < columns) & options.get("mask", True)
    logits = np.where(visible, logits, -0.7 * np.finfo(np.float32).max)
    output = combine(softmax(logits), v) * (t[:, None] < rows)
    return (output if batched else output[0],)


def residual(x: Arrays) -> np.ndarray:
    """Log-sum-exp of causal logits, (B, T, N)."""
    t, s = grid(T, S)
    powers = np.exp(hide(dot_logits(x["query"], x["key"]), s <= t))
    return np.asarray(np.log(powers.sum(axis=-1)).swapaxes(1, 2))


def gemma2(x: Arrays, cap: float, left: int) -> Outputs:
    t, s = grid(x["query"].shape[1], x["key"].shape[1])
    logits = cap * np.tanh(dot_logits(x["query"], x["key"]) / cap)
    return (combine(softmax(hide(logits, (s <= t) & (t - s <= left))), x["value"]),)


def causal(x: Arrays) -> Outputs:
    t, s = grid(x["query"].shape[1], x["key"].shape[1])
    return (combine(softmax(hide(dot_logits(x["query"], x["key"]), s <= t)), x["value"]),)


def longformer(x: Arrays, global_tokens: int, left: int, right: int) -> Outputs:
    t, s = grid(x["query"].shape[1], x["key"].shape[1])
    near = (t - s <= left) & (s - t <= right)
    visible = near | (t < global_tokens) | (s < global_tokens)
    return (combine(softmax(hide(dot_logits(x["query"], x["key"]), visible)), x["value"]),)


def packed(x: Arrays) -> Outputs:
    t, s = grid(T, S)
    same = SEGMENTS["query_segment_ids"][:, None, :, None] == SEGMENTS["key_value_segment_ids"][:, None, None, :]
    return (combine(softmax(hide(dot_logits(x["query"], x["key"]), (s <= t) & same)), x["value"]),)


def sdpa_call(name: str, shapes: Shapes, **options: Any) -> Example:
    others = {{"mask": "attn_mask"}.get(key, key): value for key, value in options.items()}
    known = {key: value for key, value in options.items() if key != "enable_gqa"}
    return Example(SDPA, name, shapes, lambda x: sdpa(x, **known), others)


def jax_nn_call(name: str, shapes: Shapes, **options: Any) -> Example:
    return Example(JAX_NN, name, shapes, lambda x: jax_nn(x, **options), options)


def keras_ops_call(name: str, shapes: Shapes, **options: Any) -> Example:
    """What jax.nn's function does too."""
    return Example(KERAS_OPS, name, shapes, lambda x: jax_nn(x, **options), options)


CALLS = [
    sdpa_call("plain", BNTH),
    sdpa_call("causal", BNTH, is_causal=True, scale=0.5),
    sdpa_call("grouped", GROUPED, enable_gqa=True, is_causal=True),
    sdpa_call("one-head-for-all", {**BNTH, "key": (B, 1, S, H), "value": (B, 1, S, V)}),
    sdpa_call("bool-mask-with-an-empty-row", BNTH, mask=MASK),
    sdpa_call("float-mask", {**BNTH, "attn_mask": (N, T, S)}),
    sdpa_call("float-mask-of-keys", {**BNTH, "attn_mask": (1, S)}),
    sdpa_call("without-batch", {"query": (T, H), "key": (S, H), "value": (S, V)}, is_causal=True),
    sdpa_call("heads-only", {"query": (N, T, H), "key": (N, S, H), "value": (N, S, V)}),
    sdpa_call("more-leading-axes", {"query": (2, 1, N, T, H), "key": (3, N, S, H), "value": (2, 3, N, S, V)}),
    jax_nn_call("plain", SAME_HEAD),
    jax_nn_call("causal", SAME_HEAD, is_causal=True, scale=0.5),
    jax_nn_call("bias", {**SAME_HEAD, "bias": (1, N, T, 1)}),
    jax_nn_call("mask-with-an-empty-row", SAME_HEAD, mask=MASK),
    jax_nn_call("window", SAME_HEAD, local_window_size=(1, 0)),
    jax_nn_call("lengths", SAME_HEAD, query_seq_lengths=np.array([2, 3]), key_value_seq_lengths=np.array([0, 4])),
    jax_nn_call("without-batch", {name: shape[1:] for name, shape in SAME_HEAD.items()}, is_causal=True),
    keras_ops_call("causal", SAME_HEAD, is_causal=True, scale=0.5),
    Example("gemma2", "capped", BTNH, lambda x: gemma2(x, 2.0, 1), {"cap": 2.0, "left": 1}),
    Example("causal_gqa", "plain", BTNH, causal),
    Example("packed_documents", "segments", BTNH, packed, SEGMENTS),
]
"""All differentiable arguments are in `shapes`; the rest is in `others`."""

BLOCKWISE = [
    Example("gemma2_blockwise", "capped", BTNH, lambda x: gemma2(x, 2.0, 1), {"cap": 2.0, "left": 1}),
    Example("causal_gqa_blockwise", "plain", BTNH, causal),
    Example(
        "longformer_blockwise",
        "two-ranges",
        BTNH,
        lambda x: longformer(x, 1, 0, 1),
        {"global_tokens": 1, "left": 0, "right": 1},
    ),
]
"""The same functions, block by block, where targets have that form."""


def float64_through(call: Example) -> bool:
    """Whether the function computes in float64; jax.nn's softmax is float32 whatever comes in."""
    return call.spec != JAX_NN
