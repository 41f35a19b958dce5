# keras.ops.dot_product_attention@tensorflow 3.15.1, answers. Multi-query attention is documented as K == 1; one head is
# not repeated, and the einsum does not broadcast it.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[[-1.455], [0.03714]]]], 'float16')
key = tf.constant([[[[0.28]]]], 'float16')
value = tf.constant([[[[0.812]]]], 'float16')
try:
    output = keras.ops.dot_product_attention(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
