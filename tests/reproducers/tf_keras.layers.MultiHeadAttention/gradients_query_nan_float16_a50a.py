# tf_keras.layers.MultiHeadAttention 2.21.0, gradients. As above: several times the fill overflow.
import base64, zlib
import numpy as np
import tf_keras
import tensorflow as tf
attention_mask = tf.constant([[[1, 0], [2, 0]], [[0, 0], [1, 0]], [[1, -1], [-1, 0]], [[1, 7], [0, 0]], [[0, 1], [1, 1]]], 'int32')
query = tf.constant([[[-1.455, 0.03714], [0.28, -0.3755]], [[0.1726, -1.028], [-0.1621, 0.4177]], [[-0.4153, -0.8623], [-0.6147, 0.857]], [[-1.153, 1.317], [0.842, -0.11084]], [[0.2273, -0.3552], [2.164, 0.0793]]], 'float16')
value = tf.constant(np.frombuffer(zlib.decompress(base64.b64decode("eNoBjABz/2YyfjztPa8/sDt9ObY1xLnmuau7ergyuvC/173iOM4+LjeDPcs6rDy+PU28mrxzvb29zrkFuL6/NDkzPH87HjwkP5I7YzmXuyC9ML97uWW7Zbyhvf44NTwXPco+CTzQPWI68ru8vKi9Or5YuRK5ILq4Ohw/9zzIPUQ1bjuIPS68hLb8vHS6eLyNv4u+Ws1F7A==")), "float16").reshape(5, 2, 7), 'float16')
d_output = tf.constant([[[1.439, -0.1884], [0.1067, -1.291]], [[0.3787, -0.7188], [-1.045, -0.9365]], [[-1.0, 1.07], [-0.2206, 1.1455]], [[0.487, -0.978], [0.09186, 0.184]], [[0.583, -0.5127], [-1.833, 0.03912]]], 'float16')
layer = tf_keras.layers.MultiHeadAttention(num_heads=2, key_dim=1, dtype='float16')
layer(query, value, attention_mask=attention_mask)
weights = {'query_kernel': tf.constant([[[0.005013], [-0.07855]], [[0.3975], [0.3057]]], 'float16'), 'query_bias': tf.constant([[0.2346], [0.4438]], 'float16'), 'key_kernel': tf.constant([[[-0.1218], [0.1153]], [[-0.1299], [0.074]], [[-0.02644], [-0.11993]], [[-0.0198], [0.01546]], [[-0.07947], [0.0329]], [[-0.3647], [0.2837]], [[0.0772], [0.1172]]], 'float16'), 'key_bias': tf.constant([[-0.1606], [-0.3267]], 'float16'), 'value_kernel': tf.constant([[[-0.0179], [0.2795]], [[0.1527], [0.357]], [[0.0923], [0.1293]], [[0.0791], [0.2544]], [[0.3013], [0.2417]], [[-0.02637], [0.2051]], [[0.1204], [0.167]]], 'float16'), 'value_bias': tf.constant([[0.4573], [-0.3086]], 'float16'), 'attention_output_kernel': tf.constant([[[1.472, 0.9985]], [[-0.06085, 0.493]]], 'float16'), 'attention_output_bias': tf.constant([0.3037, 0.0019245], 'float16')}
[each.assign(weights['_'.join(each.name[:-2].split('/')[-2:])]) for each in layer.weights]
with tf.GradientTape() as tape:
    tape.watch(query)
    output = layer(query, value, attention_mask=attention_mask)
gradient = tape.gradient(output, query, d_output)
print("got ", float(gradient[3, 0, 0]))
print("want", 0.0274899412, "+- 0.0011")
