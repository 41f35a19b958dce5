"""`jax.nn.dot_product_attention` in plain jax.numpy, correct. faults.py plants bugs in it."""

import jax
import jax.numpy as jnp

FILL = -0.7 * float(jnp.finfo(jnp.float32).max)


def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    *,
    scale=None,
    is_causal=False,
    query_seq_lengths=None,
    key_value_seq_lengths=None,
    local_window_size=None,
    implementation=None,
    return_residual=False,
):
    """Attend as `jax.nn` documents it: (B, T, N, H) or (T, N, H); hidden logits become a finite fill."""
    check(query, key, value, mask, (query_seq_lengths, key_value_seq_lengths), local_window_size)
    rank = query.ndim
    if rank == 3:
        query, key, value = query[None], key[None], value[None]
    (B, T, N, H), (S, K), dtype = query.shape, key.shape[1:3], query.dtype
    wide = jnp.promote_types(dtype, jnp.float32)
    query = query.reshape(B, T, K, N // K, H)
    scale = H**-0.5 if scale is None else scale
    logits = jnp.einsum("btkgh,bskh->bkgts", query, key, preferred_element_type=wide).reshape(B, N, T, S) * scale
    if bias is not None:
        logits = logits + bias
    visible = visible_keys(T, S, mask, is_causal, query_seq_lengths, key_value_seq_lengths, local_window_size)
    logits = jnp.where(visible, logits, FILL).astype(jnp.float32)
    weight = jax.nn.softmax(logits, axis=-1).astype(dtype).reshape(B, K, N // K, T, S)
    output = jnp.einsum("bkgts,bskh->btkgh", weight, value).reshape(B, T, N, H)
    if query_seq_lengths is not None:
        inside = jnp.arange(T) < query_seq_lengths[:, None]
        output = jnp.where(inside[:, :, None, None], output, 0)
    residual = jax.lax.stop_gradient(jax.nn.logsumexp(logits, axis=-1).transpose(0, 2, 1).astype(dtype))
    if rank == 3:
        output, residual = output[0], residual[0]
    return (output, residual) if return_residual else output


def check(query, key, value, mask, lengths, window):
    """Refuse what the documents refuse."""
    if not all(jnp.issubdtype(array.dtype, jnp.floating) for array in (query, key, value)):
        raise ValueError("query, key and value must be floating")
    if not query.ndim == key.ndim == value.ndim or query.ndim not in (3, 4):
        raise ValueError("query, key and value must be of rank 3 or 4")
    if key.shape != value.shape or query.shape[-1] != key.shape[-1] or query.shape[:-3] != key.shape[:-3]:
        raise ValueError("query, key and value must fit together")
    if query.shape[-2] % key.shape[-2]:
        raise ValueError("The number of query heads must be a multiple of key/value heads")
    if mask is not None and mask.dtype != bool:
        raise ValueError("mask must be boolean")
    if not all(jnp.issubdtype(given.dtype, jnp.integer) for given in lengths if given is not None):
        raise ValueError("query_seq_lengths and key_value_seq_lengths must be integers")
    if window is not None and min(pair(window)) < 0:
        raise ValueError("local_window_size must hold sizes of 0 or more")


def pair(window):
    """One size means both sides."""
    return window if isinstance(window, tuple | list) else (window, window)


def visible_keys(T, S, mask, is_causal, query_lengths, key_lengths, window):
    """Which keys each query may attend to, broadcastable to (B, N, T, S)."""
    t, s = jnp.arange(T)[:, None], jnp.arange(S)
    visible = jnp.ones((T, S), bool)
    if mask is not None:
        visible = visible & mask
    if is_causal:
        visible = visible & (s <= t)
    if window is not None:
        left, right = pair(window)
        visible = visible & (t - left <= s) & (s <= t + right)
    if query_lengths is not None:
        visible = visible & (t < query_lengths[:, None, None, None])
    if key_lengths is not None:
        visible = visible & (s < key_lengths[:, None, None, None])
    return visible
