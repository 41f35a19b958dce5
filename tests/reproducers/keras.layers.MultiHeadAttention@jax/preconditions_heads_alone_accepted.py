# keras.layers.MultiHeadAttention@jax 3.15.1, preconditions. A mask with an axis of heads has it lined up with the batch
# of a mask of padding.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query, value, key, attention_mask, value_mask = jax.numpy.full((1, 6, 8), 1.0, dtype='float32'), jax.numpy.full((1, 6, 13), 1.0, dtype='float32'), jax.numpy.full((1, 6, 11), 1.0, dtype='float32'), jax.numpy.full((1, 4, 1, 6), 1, dtype='int32'), jax.numpy.full((1, 6), True, dtype='bool')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=4, key_dim=8, value_dim=8, output_shape=15, use_gate=True, dtype='float32')
    layer(query, value, key=key, value_mask=value_mask, attention_mask=attention_mask, return_attention_scores=True, training=False, use_causal_mask=True)
    weights = {'query_kernel': jax.numpy.full((8, 4, 8), 1.0, dtype='float32'), 'query_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'key_kernel': jax.numpy.full((11, 4, 8), 1.0, dtype='float32'), 'key_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'gate_kernel': jax.numpy.full((8, 4, 8), 1.0, dtype='float32'), 'gate_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'value_kernel': jax.numpy.full((13, 4, 8), 1.0, dtype='float32'), 'value_bias': jax.numpy.full((4, 8), 1.0, dtype='float32'), 'attention_output_kernel': jax.numpy.full((4, 8, 15), 1.0, dtype='float32'), 'attention_output_bias': jax.numpy.full((15,), 1.0, dtype='float32')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value, key, attention_mask, value_mask: layer(query, value, key=key, value_mask=value_mask, attention_mask=attention_mask, return_attention_scores=True, training=False, use_causal_mask=True))(query, value, key, attention_mask, value_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-alone')
