# tf_keras.layers.AdditiveAttention 2.21.0, preconditions. Documented as boolean; numbers multiply the rows.
import tf_keras
import tensorflow as tf
query = tf.fill((2, 1, 2), tf.constant(1.0, 'float32'))
value = tf.fill((2, 1, 2), tf.constant(1.0, 'float32'))
query_mask = tf.constant([[1], [1]], 'int32')
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
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of query_mask')
