# keras.layers.MultiHeadAttention@tensorflow 3.15.1, preconditions. As above: nothing says that positions along several
# axes have no order.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query, value, query_mask, attention_mask = tf.fill((2, 1, 2, 5), tf.constant(1.0, 'float32')), tf.fill((2, 1, 2, 10), tf.constant(1.0, 'float32')), tf.fill((2, 1, 2), tf.constant(True, 'bool')), tf.constant([[[[[1]]]]], 'int32')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=3, use_bias=False, output_shape=5, attention_axes=(2, 1), flash_attention=False, dtype='float32')
    layer(query, value, query_mask=query_mask, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    weights = {'query_kernel': tf.fill((5, 2, 3), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((10, 2, 3), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((10, 2, 3), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 3, 5), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, query_mask=query_mask, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: positions-of-one-axis')
