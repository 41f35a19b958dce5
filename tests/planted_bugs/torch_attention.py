"""`torch.nn.functional.scaled_dot_product_attention` in plain torch, correct. faults.py plants bugs in it."""

import torch


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False
):
    """Attend as torch documents it: (..., N, T, H), any batch axes; rows with nothing to attend to are zero."""
    check(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    wide = torch.promote_types(query.dtype, torch.float32)
    key, value = per_query_head(key, query), per_query_head(value, query)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = query.to(wide) @ key.to(wide).transpose(-2, -1) * scale
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        logits = logits + attn_mask.to(wide)
    logits = logits.masked_fill(~visible_keys(logits, attn_mask, is_causal), -torch.inf)
    weight = safe_softmax(logits)
    if dropout_p > 0:
        weight = torch.dropout(weight, dropout_p, True)
    return (weight @ value.to(wide)).to(query.dtype)


def check(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa):
    """Refuse what the documents refuse."""
    if not query.is_floating_point() or not query.dtype == key.dtype == value.dtype:
        raise RuntimeError("query, key and value must be floating and of one dtype")
    if min(query.dim(), key.dim(), value.dim()) < 2 or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise RuntimeError("query, key and value must fit together")
    if attn_mask is not None and is_causal:
        raise RuntimeError("Explicit attn_mask should not be set when is_causal=True")
    if attn_mask is not None and (attn_mask.dim() == 0 or attn_mask.dtype not in (torch.bool, torch.float32, query.dtype)):
        raise RuntimeError("attn_mask must have axes, and be boolean or floating like query")
    if not 0 <= dropout_p <= 1:
        raise RuntimeError("dropout probability has to be between 0 and 1")
    if enable_gqa and query.dim() < 3:
        raise IndexError("enable_gqa=True needs an axis of heads")
    if query.dim() > 2:
        check_heads(query.shape[-3], key.shape[-3], value.shape[-3], enable_gqa)


def check_heads(heads, key_heads, value_heads, enable_gqa):
    """Heads are equal, or 1 for all, or, with enable_gqa, grouped."""
    if key_heads != value_heads:
        raise RuntimeError("key and value must have the same number of heads")
    if enable_gqa and heads % key_heads:
        raise RuntimeError("Number of heads in key and value must divide the number of heads in query")
    if not enable_gqa and key_heads not in (1, heads):
        raise RuntimeError("key and value must have the heads of query, or 1, unless enable_gqa=True")


def per_query_head(tensor, query):
    """Give every query head its own key/value head: head n reads n // G."""
    if query.dim() < 3:
        return tensor
    return tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], dim=-3)


def visible_keys(logits, attn_mask, is_causal):
    """Which keys each query may attend to."""
    visible = torch.ones_like(logits, dtype=torch.bool)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        visible = visible & attn_mask
    if is_causal:
        visible = visible.tril()
    return visible


def safe_softmax(logits):
    """Softmax whose rows of -inf are zero, in value and in gradient."""
    hidden = (logits == -torch.inf).all(-1, keepdim=True)
    weight = torch.softmax(logits.masked_fill(hidden, 0), -1)
    return weight.masked_fill(hidden, 0)
