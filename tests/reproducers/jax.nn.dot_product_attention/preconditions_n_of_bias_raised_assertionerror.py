# jax.nn.dot_product_attention 0.10.2, preconditions. A bias with another number of heads meets a bare assert, which
# `python -O` removes.
import jax
query = jax.numpy.full((2, 1, 2, 3), 1.0, dtype='float32')
key = jax.numpy.full((2, 1, 2, 3), 1.0, dtype='float32')
value = jax.numpy.full((2, 1, 2, 3), 1.0, dtype='float32')
bias = jax.numpy.full((3, 1, 1), 1.0, dtype='float32')
mask = jax.numpy.array([[[[True]]], [[[True]]]], 'bool')
query_seq_lengths = jax.numpy.array([1, 1], 'int32')
try:
    output = jax.jit(lambda query, key, value, bias, mask, query_seq_lengths: jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=0.5, is_causal=True, query_seq_lengths=query_seq_lengths, local_window_size=1))(query, key, value, bias, mask, query_seq_lengths)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: N of bias')
