# tf_keras.layers.AdditiveAttention 2.21.0, answers. The scale has the size of value's last axis, and meets query's and
# key's: where a key is given and these differ, the layer cannot be called, or broadcasts.
import tf_keras
import tensorflow as tf
query = tf.constant([[[-1.455549716949463]]], 'float64')
value = tf.constant([[[1.018571138381958, 1.140014410018921]]], 'float64')
key = tf.constant([[[-0.37555551528930664]]], 'float64')
try:
    layer = tf_keras.layers.AdditiveAttention(dtype='float64')
    layer([query, value, key])
    weights = {'scale': tf.constant([1.1726088523864746], 'float64')}
    [each.assign(weights[each.name.split('/')[-1][:-2]]) for each in layer.weights]
    output = layer([query, value, key])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
