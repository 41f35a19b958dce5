# tf_keras.layers.MultiHeadAttention 2.21.0, preconditions. No shape is checked before it meets another one in a
# TensorFlow op.
import tf_keras
import tensorflow as tf
query = tf.fill((1, 1, 2, 4), tf.constant(1.0, 'float32'))
value = tf.fill((1, 1, 3, 9), tf.constant(1.0, 'float32'))
try:
    layer = tf_keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, value_dim=2, output_shape=4, attention_axes=(2, 1), dtype='float32')
    layer(query, value, use_causal_mask=True)
    weights = {'query_kernel': tf.fill((4, 2, 2), tf.constant(1.0, 'float32')), 'query_bias': tf.fill((2, 2), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((9, 2, 2), tf.constant(1.0, 'float32')), 'key_bias': tf.fill((2, 2), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((9, 2, 2), tf.constant(1.0, 'float32')), 'value_bias': tf.fill((2, 2), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 2, 4), tf.constant(1.0, 'float32')), 'attention_output_bias': tf.fill((4,), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.name[:-2].split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: positions-of-one-axis')
