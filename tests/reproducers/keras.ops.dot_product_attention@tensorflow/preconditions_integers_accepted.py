# keras.ops.dot_product_attention@tensorflow 3.15.1, preconditions. Integer query, key and value are computed with the
# probabilities truncated to 0 and 1.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((2, 1, 2, 3), tf.constant(1, 'int32'))
key = tf.fill((2, 1, 2, 3), tf.constant(1, 'int32'))
value = tf.fill((2, 1, 2, 3), tf.constant(1, 'int32'))
mask = tf.constant([[True]], 'bool')
try:
    output = keras.ops.dot_product_attention(query, key, value, mask=mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: integers')
