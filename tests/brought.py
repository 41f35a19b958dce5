"""What users bring: functions and adapters over NumPy that the harness is pointed at. They import nothing of attnspec."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from planted_bugs.numpy_attention import dot_product_attention, dot_product_attention_vjp


def heads_first(q, k, v, causal=False, sm_scale=None):
    """(B, N, T, H), contiguous."""
    assert q.flags.c_contiguous
    moved = [np.swapaxes(array, -3, -2) for array in (q, k, v)]
    return np.swapaxes(dot_product_attention(*moved, is_causal=causal, scale=sm_scale), -3, -2)


def heads_first_vjp(d_output, q, k, v, causal=False, sm_scale=None):
    moved = [np.swapaxes(array, -3, -2) for array in (d_output, q, k, v)]
    found = dot_product_attention_vjp(*moved, is_causal=causal, scale=sm_scale)
    return {own: np.swapaxes(found[name], -3, -2) for own, name in (("q", "query"), ("k", "key"), ("v", "value"))}


NAMES = {"query": "q", "key": "k", "value": "v", "is_causal": "causal", "scale": "sm_scale"}
LAYOUTS = {"query": "B N T H", "key": "B K S H", "value": "B K S H", "output": "B N T H"}
adapted = {"function": heads_first, "arguments": NAMES, "layouts": LAYOUTS, "vjp": heads_first_vjp}


@dataclass
class Described:
    function: object = heads_first
    arguments: object = None
    layouts: object = None


as_dataclass = Described(heads_first, NAMES, LAYOUTS)
as_namespace = SimpleNamespace(**adapted)


def equal_heads(query, key, value):
    if query.shape[-2] != key.shape[-2]:
        raise NotImplementedError("grouped heads")
    return dot_product_attention(query, key, value)


picky = {"function": equal_heads, "arguments": ["query", "key", "value"], "requires": ["N == K"], "dtypes": ["float32"]}
careless = picky | {"function": lambda query, key, value: dot_product_attention(query, key, value)}
plain_only = equal_heads


def refuses_everything(query, key, value):
    raise NotImplementedError("nothing")


class Attention:
    def __call__(self, query, key, value, *, scale=None):
        return dot_product_attention(query, key, value, scale=scale)


def make():
    return Attention()


def needs_more(query, key, value, window):
    return value


def two_tensors(query, key):
    return key


not_a_function = 3
