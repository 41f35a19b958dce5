# tf_keras.layers.MultiHeadAttention 2.21.0, preconditions. Documented with shape (B, T, S); one axis more is broadcast,
# and lines the batch up with the heads.
import tf_keras
import tensorflow as tf
query = tf.fill((1, 3, 4), tf.constant(1.0, 'float32'))
value = tf.fill((1, 4, 9), tf.constant(1.0, 'float32'))
attention_mask = tf.constant([[[[True]]]], 'bool')
try:
    layer = tf_keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, output_shape=11, attention_axes=1, dtype='float32')
    layer(query, value, attention_mask=attention_mask, return_attention_scores=True, training=True)
    weights = {'query_kernel': tf.fill((4, 2, 2), tf.constant(1.0, 'float32')), 'query_bias': tf.fill((2, 2), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((9, 2, 2), tf.constant(1.0, 'float32')), 'key_bias': tf.fill((2, 2), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((9, 2, 2), tf.constant(1.0, 'float32')), 'value_bias': tf.fill((2, 2), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 2, 11), tf.constant(1.0, 'float32')), 'attention_output_bias': tf.fill((11,), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.name[:-2].split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, attention_mask=attention_mask, return_attention_scores=True, training=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of attention_mask')
