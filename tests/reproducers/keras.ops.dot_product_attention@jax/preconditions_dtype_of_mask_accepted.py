# keras.ops.dot_product_attention@jax 3.15.1, preconditions. Documented as boolean. jax.nn refuses integers; the form
# that Keras then tries reads them as truth values.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.full((2, 1, 2, 3), 1.0, dtype='float32')
key = jax.numpy.full((2, 1, 2, 3), 1.0, dtype='float32')
value = jax.numpy.full((2, 1, 2, 3), 1.0, dtype='float32')
mask = jax.numpy.array([[1]], 'int32')
try:
    output = jax.jit(lambda query, key, value, mask: keras.ops.dot_product_attention(query, key, value, mask=mask))(query, key, value, mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of mask')
