# keras.layers.MultiHeadAttention@jax 3.15.1, preconditions. Axis 0 is the batch, which the documents except; the fused
# path reads no axes.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query = jax.numpy.full((1, 2, 4), 1.0, dtype='float32')
value = jax.numpy.full((1, 3, 9), 1.0, dtype='float32')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, value_dim=2, output_shape=4, attention_axes=0, dtype='float32')
    layer(query, value)
    weights = {'query_kernel': jax.numpy.full((4, 2, 2), 1.0, dtype='float32'), 'query_bias': jax.numpy.full((2, 2), 1.0, dtype='float32'), 'key_kernel': jax.numpy.full((9, 2, 2), 1.0, dtype='float32'), 'key_bias': jax.numpy.full((2, 2), 1.0, dtype='float32'), 'value_kernel': jax.numpy.full((9, 2, 2), 1.0, dtype='float32'), 'value_bias': jax.numpy.full((2, 2), 1.0, dtype='float32'), 'attention_output_kernel': jax.numpy.full((2, 2, 4), 1.0, dtype='float32'), 'attention_output_bias': jax.numpy.full((4,), 1.0, dtype='float32')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value: layer(query, value))(query, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: one-axis')
