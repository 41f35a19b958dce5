# keras.ops.dot_product_attention@tensorflow 3.15.1, preconditions. No shape is checked before it meets another one in a
# TensorFlow op.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((1, 2, 2, 2), tf.constant(1, 'int32'))
key = tf.fill((1, 3, 1, 2), tf.constant(1, 'int32'))
value = tf.fill((1, 3, 1, 2), tf.constant(1, 'int32'))
try:
    output = keras.ops.dot_product_attention(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: integers')
