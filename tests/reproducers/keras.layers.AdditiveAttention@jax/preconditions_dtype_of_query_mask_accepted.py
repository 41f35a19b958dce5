# keras.layers.AdditiveAttention@jax 3.15.1, preconditions. Documented as boolean; numbers are taken for True where they
# are not 0.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.full((2, 1, 3), 1.0, dtype='float32')
value = jax.numpy.full((2, 1, 2), 1.0, dtype='float32')
key = jax.numpy.full((2, 1, 3), 1.0, dtype='float32')
query_mask = jax.numpy.array([[1], [1]], 'int32')
try:
    layer = keras.layers.AdditiveAttention(use_scale=False, dropout=0.25, dtype='float32')
    layer([query, value, key], mask=[query_mask, None])
    output = jax.jit(lambda query, value, key, query_mask: layer([query, value, key], mask=[query_mask, None]))(query, value, key, query_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of query_mask')
