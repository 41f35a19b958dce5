# keras.layers.GroupQueryAttention@tensorflow 3.15.1, oracle. The scale 1 / sqrt(head_dim) reaches TensorFlow as a
# Python float and is rounded to float32 before it is cast to float64.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[-1.455549716949463]]], 'float64')
value = tf.constant([[[1.018571138381958], [-1.109985589981079]]], 'float64')
layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=2, num_key_value_heads=2, dtype='float64')
layer(query, value)
weights = {'query_kernel': tf.constant([[[-0.18777775764465332], [0.0863044261932373]]], 'float64'), 'query_bias': tf.constant([[-0.2571161985397339], [-0.040535807609558105]], 'float64'), 'key_kernel': tf.constant([[[0.20882391929626465], [-0.20767426490783691]]], 'float64'), 'key_bias': tf.constant([[-0.21551620960235596], [-0.15362751483917236]], 'float64'), 'value_kernel': tf.constant([[[1.8568339347839355], [-0.1537032127380371]]], 'float64'), 'value_bias': tf.constant([[0.32946527004241943], [0.21039116382598877]], 'float64'), 'attention_output_kernel': tf.constant([[[0.44457030296325684]], [[0.6136343479156494]]], 'float64'), 'attention_output_bias': tf.constant([-0.08880937099456787], 'float64')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
output = layer(query, value)
print("got ", float(output[0, 0, 0]))
print("want", 0.152823443, "+- 4.3e-15")
