# tf_keras.layers.Attention 2.21.0, preconditions. No shape and no dtype is checked before it meets another one in a
# TensorFlow op.
import tf_keras
import tensorflow as tf
query = tf.fill((1, 2, 3), tf.constant(1, 'int32'))
value = tf.fill((1, 3, 3), tf.constant(1, 'int32'))
try:
    layer = tf_keras.layers.Attention(dtype='float32')
    layer([query, value])
    output = layer([query, value])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: integers')
