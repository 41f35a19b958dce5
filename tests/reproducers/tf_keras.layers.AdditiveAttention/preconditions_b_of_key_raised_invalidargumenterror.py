# tf_keras.layers.AdditiveAttention 2.21.0, preconditions. No shape and no dtype is checked before it meets another one
# in a TensorFlow op.
import tf_keras
import tensorflow as tf
query = tf.fill((2, 1, 2), tf.constant(1, 'int32'))
value = tf.fill((2, 1, 2), tf.constant(1, 'int32'))
query_mask = tf.constant([[True], [True]], 'bool')
try:
    layer = tf_keras.layers.AdditiveAttention(dropout=0.25, dtype='float32')
    layer([query, value], mask=[query_mask, None], return_attention_scores=True, use_causal_mask=True)
    weights = {'scale': tf.constant([1.0, 1.0], 'float32')}
    [each.assign(weights[each.name.split('/')[-1][:-2]]) for each in layer.weights]
    output = layer([query, value], mask=[query_mask, None], return_attention_scores=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: integers')
