# keras.layers.MultiHeadAttention@tensorflow 3.15.1, preconditions. As above: masks are joined before anything else is
# looked at.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((2, 2, 2, 5), tf.constant(1.0, 'float32'))
value = tf.fill((2, 1, 3, 10), tf.constant(1.0, 'float32'))
attention_mask = tf.fill((2, 2, 1, 1, 3, 1), tf.constant(1, 'int32'))
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4, value_dim=4, dropout=0.25, output_shape=5, attention_axes=(2, 1), dtype='float32')
    layer(query, value, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    weights = {'query_kernel': tf.fill((5, 2, 4), tf.constant(1.0, 'float32')), 'query_bias': tf.fill((2, 4), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((10, 2, 4), tf.constant(1.0, 'float32')), 'key_bias': tf.fill((2, 4), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((10, 2, 4), tf.constant(1.0, 'float32')), 'value_bias': tf.fill((2, 4), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((2, 4, 5), tf.constant(1.0, 'float32')), 'attention_output_bias': tf.fill((5,), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: positions-of-one-axis')
