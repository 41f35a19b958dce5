# keras.layers.MultiHeadAttention@tensorflow 3.15.1, answers. As above: masks whose axes are not the scores'.
import os
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
attention_mask = tf.constant([[2], [7], [7], [0], [7]], 'int32')
query = tf.constant([[[[-1.455549716949463], [0.037142276763916016], [0.2800288200378418], [-0.37555551528930664], [0.1726088523864746]], [[-1.0284647941589355], [-0.16214323043823242], [0.4176478385925293], [-0.41534852981567383], [-0.8620648384094238]]], [[[-0.6145100593566895], [0.8568339347839355], [-1.153703212738037], [1.3178610801696777], [0.8415646553039551]], [[-0.11085939407348633], [0.22726869583129883], [-0.3552374839782715], [2.16408109664917], [0.07929277420043945]]]], 'float64')
value = tf.constant([[[[0.19995474815368652, 1.123096227645874, 1.4810006618499756, 1.9209997653961182, 0.9607107639312744, 0.6861350536346436]], [[0.35689234733581543, 1.5295050144195557, 1.5125339031219482, 1.2915198802947998, 1.6904184818267822, 1.475449800491333]]], [[[0.26554322242736816, 0.7896406650543213, 0.6104047298431396, 1.701322317123413, 0.4486711025238037, 1.3776848316192627]], [[0.8492577075958252, 1.16817307472229, 1.4351203441619873, 1.1745359897613525, 1.100034475326538, 0.8881270885467529]]]], 'float64')
try:
    layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, attention_axes=2, dtype='float64')
    layer(query, value, attention_mask=attention_mask, use_causal_mask=True)
    weights = {'query_kernel': tf.constant([[[-0.18500828742980957]]], 'float64'), 'query_bias': tf.constant([[0.26214420795440674]], 'float64'), 'key_kernel': tf.constant([[[0.3051829965435257]], [[-0.279859420992835]], [[-0.14279994348700273]], [[0.02039837896366173]], [[-0.02579652134655192]], [[0.01207359855032181]]], 'float64'), 'key_bias': tf.constant([[0.39258134365081787]], 'float64'), 'value_kernel': tf.constant([[[0.14879902203877765]], [[0.05780418713887532]], [[0.2671010494232178]], [[0.15622003873189289]], [[-0.015552282333374023]], [[0.354941447575887]]], 'float64'), 'value_bias': tf.constant([[0.16293442249298096]], 'float64'), 'attention_output_kernel': tf.constant([[[1.3025736808776855]]], 'float64'), 'attention_output_bias': tf.constant([-0.07847630977630615], 'float64')}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, attention_mask=attention_mask, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
