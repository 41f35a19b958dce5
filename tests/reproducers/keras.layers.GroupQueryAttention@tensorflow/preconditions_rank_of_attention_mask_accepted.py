# keras.layers.GroupQueryAttention@tensorflow 3.15.1, preconditions. Documented with shapes (B, T, S), (B, T) and (B,
# S); one axis more is broadcast, and lines the batch up with the heads.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query, value, key, attention_mask = tf.fill((1, 3, 4), tf.constant(1.0, 'float32')), tf.fill((1, 4, 4), tf.constant(1.0, 'float32')), tf.fill((1, 4, 7), tf.constant(1.0, 'float32')), tf.fill((1, 1, 1, 4), tf.constant(True, 'bool'))
try:
    layer = keras.layers.GroupQueryAttention(head_dim=2, num_query_heads=2, num_key_value_heads=1, dropout=0.25, use_bias=False, dtype='float32')
    layer(query, value, key=key, attention_mask=attention_mask, use_causal_mask=True)
    weights = {'query_kernel': tf.fill((4, 2, 2), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((7, 1, 2), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((4, 1, 2), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 2, 4), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, key=key, attention_mask=attention_mask, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of attention_mask')
