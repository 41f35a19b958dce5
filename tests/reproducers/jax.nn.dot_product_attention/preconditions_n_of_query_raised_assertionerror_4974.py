# jax.nn.dot_product_attention 0.10.2, preconditions. A bias or mask with another number of heads meets a bare assert,
# which `python -O` removes.
import jax
query = jax.numpy.full((1, 3, 3, 2), 1.0, dtype='float32')
key = jax.numpy.full((1, 4, 1, 2), 1.0, dtype='float32')
value = jax.numpy.full((1, 4, 1, 2), 1.0, dtype='float32')
bias = jax.numpy.full((1, 2, 1, 4), 1.0, dtype='float32')
mask = jax.numpy.full((1, 2, 1, 4), True, dtype='bool')
query_seq_lengths = jax.numpy.array([1], 'int32')
key_value_seq_lengths = jax.numpy.array([1], 'int32')
try:
    output = jax.jit(lambda query, key, value, bias, mask, query_seq_lengths, key_value_seq_lengths: jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, query_seq_lengths=query_seq_lengths, key_value_seq_lengths=key_value_seq_lengths))(query, key, value, bias, mask, query_seq_lengths, key_value_seq_lengths)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: N of query')
