# keras.layers.Attention@tensorflow 3.15.1, preconditions. Documented as boolean; numbers are taken for True where they
# are not 0.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((1, 3, 3), tf.constant(1.0, 'float32'))
value = tf.fill((1, 4, 3), tf.constant(1.0, 'float32'))
value_mask = tf.fill((1, 4), tf.constant(1, 'int32'))
try:
    layer = keras.layers.Attention(dtype='float32')
    layer([query, value], mask=[None, value_mask])
    output = layer([query, value], mask=[None, value_mask])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of value_mask')
