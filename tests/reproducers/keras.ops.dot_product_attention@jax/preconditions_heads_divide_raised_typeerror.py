# keras.ops.dot_product_attention@jax 3.15.1, preconditions. jax.nn's ValueError is caught and logged; the form that
# Keras then tries cannot reshape the heads.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.full((1, 2, 3, 2), 1.0, dtype='float32')
key = jax.numpy.full((1, 3, 2, 2), 1.0, dtype='float32')
value = jax.numpy.full((1, 3, 2, 2), 1.0, dtype='float32')
try:
    output = jax.jit(lambda query, key, value: keras.ops.dot_product_attention(query, key, value))(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-divide')
