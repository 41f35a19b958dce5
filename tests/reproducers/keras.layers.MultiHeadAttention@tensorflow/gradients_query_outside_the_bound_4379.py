# keras.layers.MultiHeadAttention@tensorflow 3.15.1, gradients. As above: query_mask is not read.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query_mask = tf.constant([[False]], 'bool')
query = tf.constant([[[-1.455549716949463]]], 'float64')
value = tf.constant([[[1.018571138381958, 1.140014410018921, 0.8122222423553467, 1.0863044261932373, 0.4857676029205322, 0.9189283847808838], [-1.0411760807037354, -1.457674264907837, -1.681032419204712, -1.5572550296783447, -0.8215830326080322, -1.8268516063690186], [-0.8410694599151611, -1.0792176723480225, -1.5554296970367432, -1.3863656520843506, -1.6776187419891357, -0.41795945167541504], [1.7896463871002197, 0.9499547481536865, 1.873096227645874, 2.2310006618499756, 2.670999765396118, 1.7107107639312744]]], 'float64')
d_output = tf.constant([[[-0.22374582290649414]]], 'float64')
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, dtype='float64')
layer(query, value, query_mask=query_mask)
weights = {'query_kernel': tf.constant([[[-0.31386494636535645]]], 'float64'), 'query_bias': tf.constant([[-0.3215538263320923]], 'float64'), 'key_kernel': tf.constant([[[0.21616951692882677]], [[0.20924108975430658]], [[0.11901249276658202]], [[0.2818621649104396]], [[0.19410156825197147]], [[-0.2998407238636247]]], 'float64'), 'key_bias': tf.constant([[-0.10517966747283936]], 'float64'), 'value_kernel': tf.constant([[[0.03680157661437988]], [[0.400440772374471]], [[-0.01710963249206543]], [[0.2925616105397542]], [[0.11641923586527506]], [[0.22272435824076334]]], 'float64'), 'value_bias': tf.constant([[0.21756017208099365]], 'float64'), 'attention_output_kernel': tf.constant([[[1.349071979522705]]], 'float64'), 'attention_output_bias': tf.constant([0.05001723766326904], 'float64')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with tf.GradientTape() as tape:
    tape.watch(query)
    output = layer(query, value, query_mask=query_mask)
gradient = tape.gradient(output, query, d_output)
print("got ", float(gradient[0, 0, 0]))
print("want", 0, "+- 7.2e-308")
