# keras.layers.MultiHeadAttention@tensorflow 3.15.1, preconditions. As above: heads are lined up with the batch.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query, value, attention_mask, value_mask = tf.fill((3, 7, 7), tf.constant(1.0, 'float32')), tf.fill((3, 4, 12), tf.constant(1.0, 'float32')), tf.fill((1, 6, 1, 4), tf.constant(True, 'bool')), tf.fill((3, 4), tf.constant(True, 'bool'))
try:
    layer = keras.layers.MultiHeadAttention(num_heads=6, key_dim=5, value_dim=5, use_bias=False, output_shape=7, attention_axes=1, sliding_window=3, dtype='float32')
    layer(query, value, value_mask=value_mask, attention_mask=attention_mask)
    weights = {'query_kernel': tf.fill((7, 6, 5), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((12, 6, 5), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((12, 6, 5), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((6, 5, 7), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, value_mask=value_mask, attention_mask=attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-alone')
