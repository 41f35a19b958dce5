# keras.ops.dot_product_attention@jax 3.15.1, answers. Nothing documents that float16 is excluded; jax.nn's function
# asks for products in F16_F16_F32, which XLA does not have on a CPU.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.array([[[[-1.455]]]], 'float16')
key = jax.numpy.array([[[[0.03714]]]], 'float16')
value = jax.numpy.array([[[[1.14]]]], 'float16')
try:
    output = jax.jit(lambda query, key, value: keras.ops.dot_product_attention(query, key, value))(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
