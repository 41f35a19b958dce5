# keras.layers.MultiHeadAttention@jax 3.15.1, answers. keras.ops.dot_product_attention asks jax.nn's for products in
# F16_F16_F32, which XLA does not have on a CPU.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.array([[[-1.455]]], 'float16')
value = jax.numpy.array([[[1.019, 1.14, 0.812, 1.086, 0.4858, 0.919]]], 'float16')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, dtype='float16')
    layer(query, value)
    weights = {'query_kernel': jax.numpy.array([[[0.2089]]], 'float16'), 'query_bias': jax.numpy.array([[-0.1038]], 'float16'), 'key_kernel': jax.numpy.array([[[-0.176]], [[-0.1255]], [[0.1749]], [[-0.2355]], [[0.269]], [[0.1718]]], 'float16'), 'key_bias': jax.numpy.array([[-0.02771]], 'float16'), 'value_kernel': jax.numpy.array([[[0.2046]], [[0.1075]], [[0.5273]], [[0.1799]], [[-0.10004]], [[0.2076]]], 'float16'), 'value_bias': jax.numpy.array([[0.2405]], 'float16'), 'attention_output_kernel': jax.numpy.array([[[2.842]]], 'float16'), 'attention_output_bias': jax.numpy.array([-0.01964], 'float16')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value: layer(query, value))(query, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
