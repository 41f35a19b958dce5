# keras.layers.AdditiveAttention@tensorflow 3.15.1, preconditions. Documented as boolean; numbers are taken for True
# where they are not 0.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((2, 1, 3), tf.constant(1.0, 'float32'))
value = tf.fill((2, 1, 2), tf.constant(1.0, 'float32'))
key = tf.fill((2, 1, 3), tf.constant(1.0, 'float32'))
query_mask = tf.constant([[1], [1]], 'int32')
try:
    layer = keras.layers.AdditiveAttention(use_scale=False, dropout=0.25, dtype='float32')
    layer([query, value, key], mask=[query_mask, None])
    output = layer([query, value, key], mask=[query_mask, None])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of query_mask')
