# jax.nn.dot_product_attention 0.10.2, preconditions. Integer query, key and value are computed with the probabilities
# truncated to 0 and 1.
import jax
query = jax.numpy.full((1, 2, 2, 2), 1, dtype='int32')
key = jax.numpy.full((1, 3, 1, 2), 1, dtype='int32')
value = jax.numpy.full((1, 3, 1, 2), 1, dtype='int32')
try:
    output = jax.jit(lambda query, key, value: jax.nn.dot_product_attention(query, key, value))(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: integers')
