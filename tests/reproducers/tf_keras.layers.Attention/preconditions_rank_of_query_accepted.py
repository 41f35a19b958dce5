# tf_keras.layers.Attention 2.21.0, preconditions. Documented with shapes (B, T, dim), (B, S, dim), (B, T) and (B, S);
# one of them with an axis more is broadcast.
import tf_keras
import tensorflow as tf
query = tf.fill((1, 1, 2, 3), tf.constant(1.0, 'float32'))
value = tf.fill((1, 3, 3), tf.constant(1.0, 'float32'))
try:
    layer = tf_keras.layers.Attention(dtype='float32')
    layer([query, value])
    output = layer([query, value])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of query')
