# keras.ops.dot_product_attention@tensorflow 3.15.1, oracle. Products of float16 that are over 65504 are infinite; jax
# and torch keep them in float32.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[[61.34, 202.1, 236.8]]]], 'float16')
key = tf.constant([[[[35.9, 50.4, 322.8]]]], 'float16')
value = tf.constant([[[[0.745, 1.137, -0.00656]]]], 'float16')
output = keras.ops.dot_product_attention(query, key, value)
print("got ", float(output[0, 0, 0, 0]))
print("want", 0.745117188, "+- 0.083")
