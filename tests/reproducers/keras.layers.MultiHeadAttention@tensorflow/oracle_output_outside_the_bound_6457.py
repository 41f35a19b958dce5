# keras.layers.MultiHeadAttention@tensorflow 3.15.1, oracle. As above, where the sizes happen to fit.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[[-1.455]]]], 'float16')
value = tf.constant([[[[1.019, 1.14, 0.812, 1.086, 0.4858, 0.919], [-1.041, -1.458, -1.681, -1.558, -0.822, -1.827], [-0.8413, -1.079, -1.556, -1.387, -1.678, -0.418], [1.79, 0.95, 1.873, 2.23, 2.672, 1.711]]]], 'float16')
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, attention_axes=2, dtype='float16')
layer(query, value, use_causal_mask=True)
weights = {'query_kernel': tf.constant([[[-0.314]]], 'float16'), 'query_bias': tf.constant([[-0.3215]], 'float16'), 'key_kernel': tf.constant([[[0.2162]], [[0.2092]], [[0.119]], [[0.282]], [[0.1941]], [[-0.2998]]], 'float16'), 'key_bias': tf.constant([[-0.10516]], 'float16'), 'value_kernel': tf.constant([[[0.0368]], [[0.4004]], [[-0.0171]], [[0.2925]], [[0.1164]], [[0.2228]]], 'float16'), 'value_bias': tf.constant([[0.2175]], 'float16'), 'attention_output_kernel': tf.constant([[[1.349]]], 'float16'), 'attention_output_bias': tf.constant([0.05002], 'float16')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
output = layer(query, value, use_causal_mask=True)
print("got ", float(output[0, 0, 0, 0]))
print("want", 1.77130111, "+- 0.022")
