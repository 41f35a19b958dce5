# keras.layers.MultiHeadAttention@tensorflow 3.15.1, preconditions. A mask with an axis of heads has it lined up with
# the batch of a mask of padding.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query, value, key, attention_mask, value_mask = tf.fill((1, 6, 8), tf.constant(1.0, 'float32')), tf.fill((1, 6, 13), tf.constant(1.0, 'float32')), tf.fill((1, 6, 11), tf.constant(1.0, 'float32')), tf.fill((1, 4, 1, 6), tf.constant(1, 'int32')), tf.fill((1, 6), tf.constant(True, 'bool'))
try:
    layer = keras.layers.MultiHeadAttention(num_heads=4, key_dim=8, value_dim=8, output_shape=15, use_gate=True, dtype='float32')
    layer(query, value, key=key, value_mask=value_mask, attention_mask=attention_mask, return_attention_scores=True, training=False, use_causal_mask=True)
    weights = {'query_kernel': tf.fill((8, 4, 8), tf.constant(1.0, 'float32')), 'query_bias': tf.fill((4, 8), tf.constant(1.0, 'float32')), 'key_kernel': tf.fill((11, 4, 8), tf.constant(1.0, 'float32')), 'key_bias': tf.fill((4, 8), tf.constant(1.0, 'float32')), 'gate_kernel': tf.fill((8, 4, 8), tf.constant(1.0, 'float32')), 'gate_bias': tf.fill((4, 8), tf.constant(1.0, 'float32')), 'value_kernel': tf.fill((13, 4, 8), tf.constant(1.0, 'float32')), 'value_bias': tf.fill((4, 8), tf.constant(1.0, 'float32')), 'attention_output_kernel': tf.fill((4, 8, 15), tf.constant(1.0, 'float32')), 'attention_output_bias': tf.fill((15,), tf.constant(1.0, 'float32'))}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, key=key, value_mask=value_mask, attention_mask=attention_mask, return_attention_scores=True, training=False, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-alone')
