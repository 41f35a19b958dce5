# jax.nn.dot_product_attention 0.10.2, preconditions. Documented as sizes; a negative one shifts the window, and rows
# without a key become the mean of all values.
import jax
query = jax.numpy.full((1, 2, 2, 2), 1.0, dtype='float32')
key = jax.numpy.full((1, 3, 1, 2), 1.0, dtype='float32')
value = jax.numpy.full((1, 3, 1, 2), 1.0, dtype='float32')
try:
    output = jax.jit(lambda query, key, value: jax.nn.dot_product_attention(query, key, value, local_window_size=(-1, 3)))(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: window-not-negative')
