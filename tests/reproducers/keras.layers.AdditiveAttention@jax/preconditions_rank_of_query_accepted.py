# keras.layers.AdditiveAttention@jax 3.15.1, preconditions. Documented with shapes (B, T, dim), (B, S, dim), (B, T) and
# (B, S); one of them with an axis more is broadcast.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.full((1, 1, 2, 3), 1.0, dtype='float32')
value = jax.numpy.full((1, 3, 3), 1.0, dtype='float32')
try:
    layer = keras.layers.AdditiveAttention(dtype='float32')
    layer([query, value])
    weights = {'scale': jax.numpy.full((3,), 1.0, dtype='float32')}
    [each.assign(weights[each.name]) for each in layer.weights]
    output = jax.jit(lambda query, value: layer([query, value]))(query, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of query')
