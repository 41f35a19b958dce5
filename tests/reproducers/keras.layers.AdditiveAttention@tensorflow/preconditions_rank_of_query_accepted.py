# keras.layers.AdditiveAttention@tensorflow 3.15.1, preconditions. Documented with shapes (B, T, dim), (B, S, dim), (B,
# T) and (B, S); one of them with an axis more is broadcast.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((1, 1, 2, 3), tf.constant(1.0, 'float32'))
value = tf.fill((1, 3, 3), tf.constant(1.0, 'float32'))
try:
    layer = keras.layers.AdditiveAttention(dtype='float32')
    layer([query, value])
    weights = {'scale': tf.fill((3,), tf.constant(1.0, 'float32'))}
    [each.assign(weights[each.name]) for each in layer.weights]
    output = layer([query, value])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of query')
