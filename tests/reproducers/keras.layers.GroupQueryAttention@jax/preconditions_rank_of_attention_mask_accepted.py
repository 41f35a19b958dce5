# keras.layers.GroupQueryAttention@jax 3.15.1, preconditions. Documented with shapes (B, T, S), (B, T) and (B, S); one
# axis more is broadcast, and lines the batch up with the heads.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query, value, key, attention_mask = jax.numpy.full((1, 3, 4), 1.0, dtype='float32'), jax.numpy.full((1, 4, 4), 1.0, dtype='float32'), jax.numpy.full((1, 4, 7), 1.0, dtype='float32'), jax.numpy.full((1, 1, 1, 4), True, dtype='bool')
try:
    layer = keras.layers.GroupQueryAttention(head_dim=2, num_query_heads=2, num_key_value_heads=1, dropout=0.25, use_bias=False, dtype='float32')
    layer(query, value, key=key, attention_mask=attention_mask, use_causal_mask=True)
    weights = {'query_kernel': jax.numpy.full((4, 2, 2), 1.0, dtype='float32'), 'key_kernel': jax.numpy.full((7, 1, 2), 1.0, dtype='float32'), 'value_kernel': jax.numpy.full((4, 1, 2), 1.0, dtype='float32'), 'attention_output_kernel': jax.numpy.full((2, 2, 4), 1.0, dtype='float32')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = jax.jit(lambda query, value, key, attention_mask: layer(query, value, key=key, attention_mask=attention_mask, use_causal_mask=True))(query, value, key, attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of attention_mask')
