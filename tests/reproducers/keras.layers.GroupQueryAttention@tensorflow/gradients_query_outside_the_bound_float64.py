# keras.layers.GroupQueryAttention@tensorflow 3.15.1, gradients. As above: the scale is rounded to float32.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[-1.455549716949463], [0.037142276763916016]]], 'float64')
value = tf.constant([[[1.140014410018921], [-1.4377777576446533]]], 'float64')
d_output = tf.constant([[[-0.11085939407348633], [0.22726869583129883]]], 'float64')
layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=2, num_key_value_heads=1, dtype='float64')
layer(query, value)
weights = {'query_kernel': tf.constant([[[0.0863044261932373], [-0.5142323970794678]]], 'float64'), 'query_bias': tf.constant([[-0.040535807609558105], [0.10441195964813232]], 'float64'), 'key_kernel': tf.constant([[[-0.20767426490783691]]], 'float64'), 'key_bias': tf.constant([[-0.21551620960235596]], 'float64'), 'value_kernel': tf.constant([[[0.38548994064331055]]], 'float64'), 'value_bias': tf.constant([[0.2142084836959839]], 'float64'), 'attention_output_kernel': tf.constant([[[-0.07685160636901855]], [[1.1589305400848389]]], 'float64'), 'attention_output_bias': tf.constant([0.21039116382598877], 'float64')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with tf.GradientTape() as tape:
    tape.watch(query)
    output = layer(query, value)
gradient = tape.gradient(output, query, d_output)
print("got ", float(gradient[0, 0, 0]))
print("want", -0.00844169782, "+- 1.4e-16")
