"""More planted faults, for `make faults` alone: the same in further places, and faults of generated code.

Of `THRESHOLDS` little calls show nothing: they need many keys, a partial block, several batch rows or a large head dim.
"""

from __future__ import annotations

from planted_bugs.faults import (
    ARGUMENTS,
    BOTH_WAYS,
    EVERYWHERE,
    GRADIENTS,
    ORACLE,
    RELATIONS,
    Fault,
    numpy,
)


def gemma2(name: str, right: str, wrong: str, *seen_by: str) -> Fault:
    """A fault of the generated `gemma2`."""
    return Fault(name, "gemma2", right, wrong, seen_by, survives=None)


def forward(name: str, right: str, wrong: str, *seen_by: str) -> Fault:
    """A fault of the generated `multi_head_attention_forward`."""
    return Fault(name, "multi_head_attention_forward", right, wrong, seen_by, survives=None)


ATTENDED = 'np.einsum("bnts,bsnh->btnh", weight.astype(dtype), value, dtype=working(dtype))'
PRODUCT = 'np.einsum("btnh,bsnh->bnts", query, key, dtype=wide)'
ANY = (*EVERYWHERE, ARGUMENTS, RELATIONS)

MASKS = (
    numpy(
        "window-aligned-bottom-right",
        "(t - left <= s) & (s <= t + right)",
        "(t - left <= s + T - S) & (s + T - S <= t + right)",
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy("window-right-edge-off-by-one", "s <= t + right", "s < t + right", *BOTH_WAYS, RELATIONS),
    numpy("one-window-size-means-the-left-side", "else (window, window)", "else (window, 0)", *BOTH_WAYS, RELATIONS),
    numpy(
        "mask-dropped-beside-causal",
        "if mask is not None:\n        mask",
        "if mask is not None and not is_causal:\n        mask",
        *ANY,
    ),
    numpy("causal-dropped-beside-mask", "if is_causal:\n", "if is_causal and mask is None:\n", *ANY),
    numpy(
        "causal-dropped-beside-bias",
        "visible = visible_keys(query, key, mask, is_causal,",
        "visible = visible_keys(query, key, mask, is_causal and bias is None,",
        *ANY,
    ),
    numpy(
        "square-mask-transposed",
        "visible &= mask\n",
        "visible &= mask.swapaxes(-1, -2) if mask.shape[-1] == mask.shape[-2] else mask\n",
        *ANY,
    ),
    numpy("key-lengths-hide-what-is-inside", "s < key_lengths", "s >= key_lengths", *ANY),
)
LOGITS = (
    numpy(
        "heads-and-queries-swapped",
        ATTENDED,
        ATTENDED.replace("->btnh", "->bnth") + ".reshape(query.shape)",
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy("softmax-over-queries", "return weight / weight.sum(axis=-1", "return weight / weight.sum(axis=-2", *ANY),
    numpy("scaled-twice", "wide.type(scale_of(query, scale))\n", "wide.type(scale_of(query, scale)) ** 2\n", *ANY),
    numpy("scale-without-its-root", "query.shape[-1] ** -0.5 if", "1 / query.shape[-1] if", *ANY),
    numpy("bias-of-first-query-for-all", "logits + bias.astype(wide)", "logits + bias[:, :, :1].astype(wide)", *ANY),
    numpy("log-sum-exp-without-its-peak", "return peak[..., 0] + np.log", "return np.log", ORACLE, RELATIONS),
    numpy("values-summed-in-half", ATTENDED, ATTENDED.replace("working(dtype)", "dtype"), ORACLE),
    numpy("logits-summed-in-half", PRODUCT, PRODUCT.replace("wide", "query.dtype"), *BOTH_WAYS, RELATIONS),
)
BACKWARD = (
    numpy(
        "d-value-of-first-head-in-group",
        '"value": sum_of_group(d_value, groups)',
        '"value": d_value[:, :, ::groups]',
        GRADIENTS,
        RELATIONS,
    ),
    numpy("groups-averaged-not-summed", "groups, H).sum(axis=3)", "groups, H).mean(axis=3)", GRADIENTS, RELATIONS),
    numpy("d-bias-scaled-too", "sum_to(d_logits, bias.shape)", "sum_to(d_logits * factor, bias.shape)", GRADIENTS, RELATIONS),
    numpy(
        "d-query-of-wrong-head",
        '"query": np.einsum("bnts,bsnh->btnh", d_logits, key)',
        '"query": np.einsum("bnts,bsnh->btnh", d_logits, key[:, :, ::-1])',
        GRADIENTS,
        RELATIONS,
    ),
)
THRESHOLDS = (
    numpy(
        "head-dims-past-64-dropped",
        PRODUCT,
        PRODUCT.replace("query, key", "query[..., :64], key[..., :64]"),
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy(
        "keys-wrap-at-128",
        "    key = per_query_head(key, query)\n    logits",
        "    key = per_query_head(key, query)[:, np.arange(key.shape[1]) % 128]\n    logits",
        *BOTH_WAYS,
    ),
    numpy(
        "softmax-sums-64-keys", "return weight / weight.sum(axis=-1", "return weight / weight[..., :64].sum(axis=-1", *BOTH_WAYS
    ),
    numpy(
        "partial-block-of-queries-dropped",
        ATTENDED,
        ATTENDED + " * (np.arange(query.shape[1]) < (query.shape[1] // 16 * 16 or 16))[:, None, None]",
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy(
        "queries-past-128-dropped",
        ATTENDED,
        ATTENDED + " * (np.arange(query.shape[1]) < 128)[:, None, None]",
        *BOTH_WAYS,
        RELATIONS,
    ),
    numpy("mask-of-the-next-batch-row", "visible &= mask\n", "visible &= np.roll(mask, 1, axis=0)\n", *ANY),
    numpy("bias-of-first-batch-for-all", "logits + bias.astype(wide)", "logits + bias[:1].astype(wide)", *ANY),
    numpy(
        "d-bias-of-first-batch-where-it-broadcasts",
        "sum_to(d_logits, bias.shape)",
        "sum_to(d_logits[:1] if len(bias) == 1 else d_logits, bias.shape)",
        GRADIENTS,
        RELATIONS,
    ),
    numpy(
        "weights-overflow-in-half",
        "weight = softmax(logits)\n    key, value",
        "weight = np.exp(logits.clip(max=11)).astype(dtype)\n    weight /= weight.sum(axis=-1, keepdims=True)\n    key, value",
        *ANY,
    ),
)
GENERATED = (
    gemma2(
        "cap-before-the-scale",
        "logits = logits * scale\n    # modifier.softcap: cap * tanh(logit / cap)\n    logits = cap * np.tanh(logits / cap)",
        "logits = cap * np.tanh(logits / cap) * scale",
        ORACLE,
        RELATIONS,
        ARGUMENTS,
    ),
    gemma2(
        "cap-on-hidden-logits-too",
        "safe_logits = np.where(empty, 0.0, logits)",
        "safe_logits = np.where(empty, 0.0, cap * np.tanh(logits / cap))",
        *ANY,
    ),
    gemma2("cap-cuts", "logits = cap * np.tanh(logits / cap)", "logits = np.clip(logits, -cap, cap)", *ANY),
    gemma2("cap-inside-alone", "cap * np.tanh(logits / cap)", "np.tanh(logits / cap)", *ANY),
    gemma2("cap-outside-alone", "cap * np.tanh(logits / cap)", "cap * np.tanh(logits)", *ANY),
    gemma2("window-one-key-short", "-left <= s - t", "-left < s - t", *ANY),
    gemma2("heads-of-a-group-apart", "query.reshape(B, T, K, G, H)", "query.reshape(B, T, G, K, H).swapaxes(2, 3)", *ANY),
    forward("weights-of-the-first-head", "weights.astype(compute).sum(1) / N", "weights.astype(compute)[:, 0]", *ANY),
    forward("weights-summed-over-heads", "weights.astype(compute).sum(1) / N", "weights.astype(compute).sum(1)", *ANY),
    forward("bias-of-query-for-key", "projected_key + in_proj_bias[1]", "projected_key + in_proj_bias[0]", *ANY),
    forward("padding-mask-inverted", "~key_padding_mask, 0.0", "key_padding_mask, 0.0", *ANY),
    forward(
        "mask-dropped-where-weights-are-returned",
        "if attn_mask is not None and attn_mask.dtype == bool:\n            logits",
        "if False:\n            logits",
        *ANY,
    ),
    forward(
        "heads-interleaved", "in_proj_weight.reshape(J, N, H, E)", "in_proj_weight.reshape(J, H, N, E).swapaxes(1, 2)", *ANY
    ),
    forward("output-projection-transposed", "out_proj_weight.reshape(E, N, V)", "out_proj_weight.T.reshape(E, N, V)", *ANY),
)

FIRST_ORDER = (*MASKS, *LOGITS, *BACKWARD, *GENERATED)
FAULTS = (*FIRST_ORDER, *THRESHOLDS)
