# keras.layers.MultiHeadAttention@jax 3.15.1, preconditions. Documented with shapes (B, T, S), (B, T) and (B, S); one
# axis more is broadcast, and lines the batch up with the heads.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query, value, key, query_mask, value_mask, attention_mask = jax.numpy.full((2, 1, 5), 1.0, dtype='float32'), jax.numpy.full((2, 1, 10), 1.0, dtype='float32'), jax.numpy.full((2, 1, 8), 1.0, dtype='float32'), jax.numpy.array([[True], [True]], 'bool'), jax.numpy.array([[True], [True]], 'bool'), jax.numpy.array([[[[True]], [[True]]]], 'bool')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=2, dropout=0.25, use_bias=False, attention_axes=1, sliding_window=3, flash_attention=False, dtype='float32')
    layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, attention_mask=attention_mask)
    weights = {'query_kernel': jax.numpy.full((5, 2, 3), 1.0, dtype='float32'), 'key_kernel': jax.numpy.full((8, 2, 3), 1.0, dtype='float32'), 'value_kernel': jax.numpy.full((10, 2, 2), 1.0, dtype='float32'), 'attention_output_kernel': jax.numpy.full((2, 2, 5), 1.0, dtype='float32')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value, key, query_mask, value_mask, attention_mask: layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, attention_mask=attention_mask))(query, value, key, query_mask, value_mask, attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of attention_mask')
