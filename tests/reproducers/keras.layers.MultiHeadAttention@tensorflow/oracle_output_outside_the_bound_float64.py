# keras.layers.MultiHeadAttention@tensorflow 3.15.1, oracle. The scale 1 / sqrt(key_dim) reaches TensorFlow as a Python
# float and is rounded to float32 before it is cast to float64.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query = tf.constant([[[-1.455549716949463]]], 'float64')
value = tf.constant([[[1.018571138381958, 1.140014410018921, 0.8122222423553467, 1.0863044261932373, 0.4857676029205322, 0.9189283847808838], [-1.0411760807037354, -1.457674264907837, -1.681032419204712, -1.5572550296783447, -0.8215830326080322, -1.8268516063690186]]], 'float64')
layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=1, dtype='float64')
layer(query, value)
weights = {'query_kernel': tf.constant([[[0.6589305400848389], [0.42078232765197754]]], 'float64'), 'query_bias': tf.constant([[-0.027714848518371582], [0.05681717395782471]], 'float64'), 'key_kernel': tf.constant([[[-0.07251254777140664], [0.44174120406609285]], [[0.016185569756733256], [-0.32661710635998825]], [[0.05025382449897859], [0.1963676979122392]], [[0.3759965797405842], [-0.016039763458688367]], [[-0.12813482779018884], [-0.2625475997843812]], [[0.21616951692882677], [0.20924108975430658]]], 'float64'), 'key_bias': tf.constant([[0.1457599401473999], [0.3452092409133911]], 'float64'), 'value_kernel': tf.constant([[[0.32514993349711097], [-0.07815225919087727]], [[0.09654688835144043], [0.03680157661437988]], [[0.400440772374471], [-0.01710963249206543]], [[0.2925616105397542], [0.11641923586527506]], [[0.22272435824076334], [0.3117067813873291]], [[0.22484532992045084], [0.2000114917755127]]], 'float64'), 'value_bias': tf.constant([[-0.055936455726623535], [-0.09250414371490479]], 'float64'), 'attention_output_kernel': tf.constant([[[1.0242884159088135]], [[1.2475426197052002]]], 'float64'), 'attention_output_bias': tf.constant([-0.34275639057159424], 'float64')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
output = layer(query, value)
print("got ", float(output[0, 0, 0]))
print("want", -2.40807606, "+- 3.5e-14")
