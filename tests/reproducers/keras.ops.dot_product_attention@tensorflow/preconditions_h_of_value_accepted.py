# keras.ops.dot_product_attention@tensorflow 3.15.1, preconditions. Documented as a value of the same shape as key; its
# own head dim is taken.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((2, 1, 2, 3), tf.constant(1.0, 'float32'))
key = tf.fill((2, 1, 2, 3), tf.constant(1.0, 'float32'))
value = tf.fill((2, 1, 2, 4), tf.constant(1.0, 'float32'))
mask = tf.constant([[True]], 'bool')
try:
    output = keras.ops.dot_product_attention(query, key, value, mask=mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: H of value')
