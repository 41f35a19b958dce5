# keras.layers.MultiHeadAttention@jax 3.15.1, preconditions. As above: masks are joined before anything else is looked
# at.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query, value, key, key_mask, attention_mask = jax.numpy.full((2, 5, 3, 8), 1.0, dtype='float32'), jax.numpy.full((2, 1, 17, 13), 1.0, dtype='float32'), jax.numpy.full((2, 1, 17, 11), 1.0, dtype='float32'), jax.numpy.full((2, 1, 17), True, dtype='bool'), jax.numpy.full((3, 5, 1, 1), 1, dtype='int32')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=4, key_dim=8, value_dim=8, output_shape=15, attention_axes=(2, 1), flash_attention=True, use_gate=True, dtype='float32')
    layer(query, value, key=key, key_mask=key_mask, attention_mask=attention_mask, return_attention_scores=True)
    weights = {'query_kernel': jax.numpy.full((8, 4, 8), 1.0, dtype='float32'), 'query_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'key_kernel': jax.numpy.full((11, 4, 8), 1.0, dtype='float32'), 'key_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'gate_kernel': jax.numpy.full((8, 4, 8), 1.0, dtype='float32'), 'gate_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'value_kernel': jax.numpy.full((13, 4, 8), 1.0, dtype='float32'), 'value_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'attention_output_kernel': jax.numpy.full((4, 8, 15), 1.0, dtype='float32'), 'attention_output_bias': jax.numpy.full((15,), 1.0, dtype='float32')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value, key, key_mask, attention_mask: layer(query, value, key=key, key_mask=key_mask, attention_mask=attention_mask, return_attention_scores=True))(query, value, key, key_mask, attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: flash-without-scores')
