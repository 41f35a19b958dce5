# keras.ops.dot_product_attention@tensorflow 3.15.1, oracle. Products of half types are rounded to them before scale and
# bias; jax and torch keep them in float32.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[[-3.443, -0.993, -2.215], [-0.3264, -7.723, -4.535], [-0.945, 0.6484, 0.2189]], [[-2.73, -0.2607, -2.078], [3.96, -7.85, -7.137], [4.85, -3.463, -4.645]], [[0.2291, 1.187, -7.727], [-10.21, 6.098, 4.785], [-4.766, -4.094, -0.02031]]]], 'float16')
key = tf.constant([[[[-12.336, 1.987, -1.026], [2.031, -0.037, 5.32], [5.65, -0.3118, 5.297]], [[-8.78, 4.89, -9.984], [-0.9873, -3.342, -10.1], [-2.41, 1.395, -0.8726]], [[-4.46, 0.447, -7.203], [3.502, -5.01, 5.133], [3.072, 5.62, -2.387]]]], 'float16')
value = tf.constant([[[[0.8, 0.74, 1.201], [1.14, 0.806, 1.602], [0.8916, 1.231, 1.609]], [[-1.624, -1.254, -1.281], [-2.441, -2.066, -1.55], [-1.292, -0.688, -0.89]], [[-0.72, -1.825, -1.813], [-1.185, -0.34, -1.89], [-1.28, -2.027, -1.398]]]], 'float16')
output = keras.ops.dot_product_attention(query, key, value)
print("got ", float(output[0, 1, 2, 0]))
print("want", -0.892476562, "+- 0.0021")
