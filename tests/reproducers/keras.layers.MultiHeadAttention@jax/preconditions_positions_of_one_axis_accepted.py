# keras.layers.MultiHeadAttention@jax 3.15.1, preconditions. As above: nothing says that positions along several axes
# have no order.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query, value, query_mask, attention_mask = jax.numpy.full((2, 1, 2, 5), 1.0, dtype='float32'), jax.numpy.full((2, 1, 2, 10), 1.0, dtype='float32'), jax.numpy.full((2, 1, 2), True, dtype='bool'), jax.numpy.array([[[[[1]]]]], 'int32')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=3, use_bias=False, output_shape=5, attention_axes=(2, 1), flash_attention=False, dtype='float32')
    layer(query, value, query_mask=query_mask, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    weights = {'query_kernel': jax.numpy.full((5, 2, 3), 1.0, dtype='float32'), 'key_kernel': jax.numpy.full((10, 2, 3), 1.0, dtype='float32'), 'value_kernel': jax.numpy.full((10, 2, 3), 1.0, dtype='float32'), 'attention_output_kernel': jax.numpy.full((2, 3, 5), 1.0, dtype='float32')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value, query_mask, attention_mask: layer(query, value, query_mask=query_mask, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True))(query, value, query_mask, attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: positions-of-one-axis')
