# keras.layers.MultiHeadAttention@tensorflow 3.15.1, preconditions. Documented with shapes (B, T, S), (B, T) and (B, S);
# one axis more is broadcast, and lines the batch up with the heads.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query, value, key, query_mask, value_mask, attention_mask = tf.fill((2, 1, 5), tf.constant(1.0, 'float32')), tf.fill((2, 1, 10), tf.constant(1.0, 'float32')), tf.fill((2, 1, 8), tf.constant(1.0, 'float32')), tf.constant([[True], [True]], 'bool'), tf.constant([[True], [True]], 'bool'), tf.constant([[[[True]], [[True]]]], 'bool')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=2, dropout=0.25, use_bias=False, attention_axes=1, sliding_window=3, flash_attention=False, dtype='float32')
    layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, attention_mask=attention_mask)
    weights = {'query_kernel': tf.fill((5, 2, 3), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((8, 2, 3), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((10, 2, 2), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 2, 5), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, attention_mask=attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of attention_mask')
