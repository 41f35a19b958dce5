"""`jax.nn.dot_product_attention` in NumPy with its gradients, written by hand and correct. faults.py plants bugs in it.

Written for reading, one step per line: repeated heads, the whole (T, S) matrix, every dtype step visible.
"""

import numpy as np

FILL = -0.7 * float(np.finfo(np.float32).max)


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
    rank, dtype = query.ndim, query.dtype
    check(query, key, value, mask, (query_seq_lengths, key_value_seq_lengths), local_window_size)
    query, key, value = batched(query), batched(key), batched(value)
    visible = visible_keys(query, key, mask, is_causal, query_seq_lengths, key_value_seq_lengths, local_window_size)
    logits = masked_logits(query, key, bias, visible, scale)
    weight = softmax(logits)
    key, value = per_query_head(key, query), per_query_head(value, query)
    output = np.einsum("bnts,bsnh->btnh", weight.astype(dtype), value, dtype=working(dtype))
    output = zero_rows(output, query_seq_lengths).astype(dtype)
    with np.errstate(over="ignore"):  # the fill is too large for float16
        residual = logsumexp(logits).transpose(0, 2, 1).astype(dtype)
    if rank == 3:
        output, residual = output[0], residual[0]
    return (output, residual) if return_residual else output


def dot_product_attention_vjp(
    d_output,
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
    """Return the gradients of query, key, value and bias, by name. The residual has none."""
    shapes = {"query": query.shape, "key": key.shape, "value": value.shape}
    dtype, wide = query.dtype, working(query.dtype)
    query, key, value, d_output = (batched(array).astype(wide) for array in (query, key, value, d_output))
    groups = query.shape[2] // key.shape[2]
    visible = visible_keys(query, key, mask, is_causal, query_seq_lengths, key_value_seq_lengths, local_window_size)
    factor = scale_of(query, scale)
    weight = softmax(masked_logits(query, key, bias, visible, scale)).astype(wide)
    key, value = per_query_head(key, query), per_query_head(value, query)
    d_output = zero_rows(d_output, query_seq_lengths)

    d_weight = np.einsum("btnh,bsnh->bnts", d_output, value)
    delta = np.sum(weight * d_weight, axis=-1, keepdims=True)
    d_logits = weight * (d_weight - delta)
    d_logits = np.where(visible, d_logits, 0)
    d_key = np.einsum("bnts,btnh->bsnh", d_logits, query) * factor
    d_value = np.einsum("bnts,btnh->bsnh", weight, d_output)
    gradients = {
        "query": np.einsum("bnts,bsnh->btnh", d_logits, key) * factor,
        "key": sum_of_group(d_key, groups),
        "value": sum_of_group(d_value, groups),
    }
    gradients = {name: gradient.reshape(shapes[name]).astype(dtype) for name, gradient in gradients.items()}
    if bias is not None:
        gradients["bias"] = sum_to(d_logits, bias.shape).astype(bias.dtype)
    return gradients


def check(query, key, value, mask, lengths, window):
    """Refuse what the documents refuse."""
    if not all(np.issubdtype(array.dtype, np.floating) for array in (query, key, value)):
        raise ValueError("query, key and value must be floating")
    if not query.ndim == key.ndim == value.ndim or query.ndim not in (3, 4):
        raise ValueError("query, key and value must be of rank 3 or 4")
    if key.shape != value.shape:
        raise ValueError("key and value must have the same shape")
    if query.shape[-1] != key.shape[-1] or query.shape[:-3] != key.shape[:-3]:
        raise ValueError("query and key must have the same batch and head dim")
    if query.shape[-2] % key.shape[-2]:
        raise ValueError("The number of query heads must be a multiple of key/value heads")
    if mask is not None and mask.dtype != bool:
        raise ValueError("mask must be boolean")
    if not all(np.issubdtype(given.dtype, np.integer) for given in lengths if given is not None):
        raise ValueError("query_seq_lengths and key_value_seq_lengths must be integers")
    if window is not None and min(pair(window)) < 0:
        raise ValueError("local_window_size must hold sizes of 0 or more")


def working(dtype):
    """The dtype to compute in: at least float32."""
    return np.promote_types(dtype, np.float32)


def batched(array):
    """Give an array of rank 3 a batch axis."""
    return array[None] if array.ndim == 3 else array


def pair(window):
    """One size means both sides."""
    return window if isinstance(window, tuple | list) else (window, window)


def scale_of(query, scale):
    """The factor of the logits: 1 / sqrt(H) unless given."""
    return query.shape[-1] ** -0.5 if scale is None else scale


def per_query_head(array, query):
    """Give every query head its own key/value head: head n reads n // G."""
    return np.repeat(array, query.shape[2] // array.shape[2], axis=2)


def visible_keys(query, key, mask, is_causal, query_lengths, key_lengths, window):
    """Which keys each query may attend to, as (B, N, T, S)."""
    (B, T, N, _), S = query.shape, key.shape[1]
    t, s = np.arange(T)[:, None], np.arange(S)
    visible = np.ones((B, N, T, S), bool)
    if mask is not None:
        mask = mask[None] if mask.ndim == 3 else mask
        visible &= mask
    if is_causal:
        visible &= s <= t
    if window is not None:
        left, right = pair(window)
        visible &= (t - left <= s) & (s <= t + right)
    if query_lengths is not None:
        visible &= t < query_lengths[:, None, None, None]
    if key_lengths is not None:
        visible &= s < key_lengths[:, None, None, None]
    return visible


def masked_logits(query, key, bias, visible, scale):
    """Scaled products plus bias, with the fill in the place of hidden ones."""
    wide = working(query.dtype)
    key = per_query_head(key, query)
    logits = np.einsum("btnh,bsnh->bnts", query, key, dtype=wide)
    logits = logits * wide.type(scale_of(query, scale))
    if bias is not None:
        bias = bias[None] if bias.ndim == 3 else bias
        logits = logits + bias.astype(wide)
    return np.where(visible, logits, wide.type(FILL))


def softmax(logits):
    """Softmax in float32, whatever the inputs are."""
    logits = logits.astype(np.float32)
    with np.errstate(invalid="ignore"):  # a row of -inf is NaN, as in jax
        weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def logsumexp(logits):
    """The logarithm of the softmax's denominator."""
    logits = logits.astype(np.float32)
    peak = logits.max(axis=-1, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)  # a row of -inf has the sum 0, not NaN
    with np.errstate(divide="ignore"):
        return peak[..., 0] + np.log(np.exp(logits - peak).sum(axis=-1))


def zero_rows(rows, query_lengths):
    """Zero the rows past each query length."""
    if query_lengths is None:
        return rows
    inside = np.arange(rows.shape[1]) < query_lengths[:, None]
    return np.where(inside[:, :, None, None], rows, 0)


def sum_of_group(gradient, groups):
    """Add up what the query heads of one key/value head ask of it."""
    B, S, N, H = gradient.shape
    return gradient.reshape(B, S, N // groups, groups, H).sum(axis=3)


def sum_to(gradient, shape):
    """Undo broadcasting: add up over the axes that the shape lacks or has at size 1."""
    full = (1,) * (gradient.ndim - len(shape)) + shape
    axes = tuple(axis for axis, size in enumerate(full) if size == 1)
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)
