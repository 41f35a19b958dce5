# keras.ops.dot_product_attention@tensorflow 3.15.1, gradients. Products of half types are rounded to them before scale
# and bias; jax and torch keep them in float32.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[[5.03], [-14.51]]]], 'float16')
key = tf.constant([[[[-6.332], [4.51]], [[-7.418], [-11.39]]]], 'float16')
value = tf.constant([[[[1.258], [1.183]], [[-1.945], [-0.584]]]], 'float16')
d_output = tf.constant([[[[0.437], [-1.171]]]], 'float16')
with tf.GradientTape() as tape:
    tape.watch(key)
    output = keras.ops.dot_product_attention(query, key, value)
gradient = tape.gradient(output, key, d_output)
print("got ", float(gradient[0, 1, 0, 0]))
print("want", -0.0295970261, "+- 0.00013")
