# tf_keras.layers.MultiHeadAttention 2.21.0, preconditions. As above, where the sizes happen to fit.
import tf_keras
import tensorflow as tf
query = tf.fill((1, 1, 3, 4), tf.constant(1.0, 'float32'))
value = tf.fill((1, 2, 2, 9), tf.constant(1.0, 'float32'))
key = tf.fill((1, 2, 2, 7), tf.constant(1.0, 'float32'))
attention_mask = tf.fill((1, 3, 1, 2, 2), tf.constant(True, 'bool'))
try:
    layer = tf_keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, value_dim=3, use_bias=False, output_shape=11, attention_axes=(2, 1), softmax_robust_masking=True, dtype='float32')
    layer(query, value, key=key, attention_mask=attention_mask, return_attention_scores=True, training=True, use_causal_mask=True)
    weights = {'query_kernel': tf.fill((4, 2, 2), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((7, 2, 2), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((9, 2, 3), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 3, 11), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.name[:-2].split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, key=key, attention_mask=attention_mask, return_attention_scores=True, training=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: positions-of-one-axis')
