# tf_keras.layers.Attention 2.21.0, preconditions. Documented as a float between 0 and 1; no constructor asks, and
# dropout draws whatever the rate.
import tf_keras
import tensorflow as tf
query = tf.fill((1, 2, 3), tf.constant(1.0, 'float32'))
value = tf.fill((1, 3, 3), tf.constant(1.0, 'float32'))
try:
    layer = tf_keras.layers.Attention(dropout=1.5, dtype='float32')
    layer([query, value])
    output = layer([query, value])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: dropout-range')
