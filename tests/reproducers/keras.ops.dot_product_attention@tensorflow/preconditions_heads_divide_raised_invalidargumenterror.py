# keras.ops.dot_product_attention@tensorflow 3.15.1, preconditions. Nobody checks the heads; the einsum refuses what a
# floored number of repeats gives.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((1, 2, 3, 2), tf.constant(1.0, 'float32'))
key = tf.fill((1, 3, 2, 2), tf.constant(1.0, 'float32'))
value = tf.fill((1, 3, 2, 2), tf.constant(1.0, 'float32'))
try:
    output = keras.ops.dot_product_attention(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-divide')
