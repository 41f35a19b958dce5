# keras.layers.Attention@tensorflow 3.15.1, preconditions. No shape and no dtype is checked before it meets another one
# in a TensorFlow op.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.fill((3, 1, 2), tf.constant(1.0, 'float32'))
value = tf.fill((2, 1, 2), tf.constant(1.0, 'float32'))
try:
    layer = keras.layers.Attention(score_mode='concat', dropout=0.25, dtype='float32')
    layer([query, value], return_attention_scores=True, use_causal_mask=True)
    weights = {'concat_score_weight': tf.constant(1.0, 'float32')}
    [each.assign(weights[each.name]) for each in layer.weights]
    output = layer([query, value], return_attention_scores=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: B of query')
