# keras.layers.Attention@jax 3.15.1, preconditions. Documented as boolean; numbers are taken for True where they are not
# 0.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.full((1, 3, 3), 1.0, dtype='float32')
value = jax.numpy.full((1, 4, 3), 1.0, dtype='float32')
value_mask = jax.numpy.full((1, 4), 1, dtype='int32')
try:
    layer = keras.layers.Attention(dtype='float32')
    layer([query, value], mask=[None, value_mask])
    output = jax.jit(lambda query, value, value_mask: layer([query, value], mask=[None, value_mask]))(query, value, value_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of value_mask')
