# keras.layers.GroupQueryAttention@jax 3.15.1, answers. keras.ops.dot_product_attention asks jax.nn's for products in
# F16_F16_F32, which XLA does not have on a CPU.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.array([[[-1.455]]], 'float16')
value = jax.numpy.array([[[1.019]]], 'float16')
try:
    layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=1, num_key_value_heads=1, dtype='float16')
    layer(query, value)
    weights = {'query_kernel': jax.numpy.array([[[0.14]]], 'float16'), 'query_bias': jax.numpy.array([[-0.0939]], 'float16'), 'key_kernel': jax.numpy.array([[[0.0863]]], 'float16'), 'key_bias': jax.numpy.array([[-0.257]], 'float16'), 'value_kernel': jax.numpy.array([[[0.838]]], 'float16'), 'value_bias': jax.numpy.array([[0.10443]], 'float16'), 'attention_output_kernel': jax.numpy.array([[[0.5845]]], 'float16'), 'attention_output_bias': jax.numpy.array([-0.2156], 'float16')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value: layer(query, value))(query, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
