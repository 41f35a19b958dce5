# keras.ops.dot_product_attention@tensorflow 3.15.1, oracle. The default scale is computed in float32, also for float64.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[[-1.455549716949463, 0.037142276763916016]]]], 'float64')
key = tf.constant([[[[0.2800288200378418, -0.37555551528930664]], [[0.1726088523864746, -1.0284647941589355]]]], 'float64')
value = tf.constant([[[[0.9189283847808838, 1.2088239192962646]], [[-1.457674264907837, -1.681032419204712]]]], 'float64')
output = keras.ops.dot_product_attention(query, key, value)
print("got ", float(output[0, 0, 0, 1]))
print("want", -0.30354206, "+- 5.1e-15")
