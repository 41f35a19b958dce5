# keras.layers.MultiHeadAttention@tensorflow 3.15.1, oracle. As above: query_mask is not read, and its rows attend.
import base64, os, zlib
import numpy as np
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
query_mask = tf.constant([[False], [True], [True], [False]], 'bool')
query = tf.constant([[[-1.455549716949463]], [[0.037142276763916016]], [[0.2800288200378418]], [[-0.37555551528930664]]], 'float64')
value = tf.constant(np.frombuffer(zlib.decompress(base64.b64decode("eNolkl1Ik1Ecxt9tjdUi7MOEwMasFZV9QDpI7ePUTRrdFMTCWi0Q04uoLsNaJ5M1CKGEoBjSoqKgi+oipKR2brIPJRKHsZz6ts3W9qLNzWluzdV5/u/Nw3Pe8/7P8zvPqyiK4Gem9yn/n8Gycak8fHZSqnA4MvC9jQlovjoilXUk/wSkbzmUlCo+1hbgzckINOPFOjNHZ/C+c/ss1PMtJ1UJBb7D+5xzUq3uZr2Q+wdM2KeWhXRMrttPGaWylafzyNOSm4UGXyGv9dxuvXyvPN45jnPHnv3E/B1fh+DXflJxzjGRhz5wZrB+3hvFnO5dmKuYesLgKpoxn1u2afDDL9Lw7lXEucY+Da4DzWlo3ecstD+L3NxUE4dWlP4C11SbDlxv7uJ+mKMKvGJQPw8/6oF3GeoXgfOiDXnY4T7k8K9oVRhyXyX+GEMfihYawTltXRPQp5s0zFXbKddqA+VpapzCuuacwfcXNtL8I+tT0Jf758B3w4t+xd5y2nc0hTlisx9z2NI49d3tovOCDTHoFTc4xYlb6JWPrIvT/dio99tjKfAFnbgHYbeB258oQb/sWkMRnPG34Bem5X/h793Ee3HQsoA8virMZ4WtxKW9/435Gz6gD+W1MYz1O1silLcdXKyuGt9z4/MJ+NYf4ON6HXm1AvfJHlqox2Wl1MuTYeRnl4/jf2ELJ6m3Rz7ciyvbY5A8fKAAXlHSS7zxJdgvym3oW62spf55Ef+RtX+IuD2d4HS9Kxjg6yvnkSO2h3qu6aL/9P71KPgyHcT3ZRL3ztKXkJPnFicC/wDekU1P")), "float64").reshape(4, 5, 6), 'float64')
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, dtype='float64')
layer(query, value, query_mask=query_mask)
weights = {'query_kernel': tf.constant([[[-0.07856440544128418]]], 'float64'), 'query_bias': tf.constant([[0.04230177402496338]], 'float64'), 'key_kernel': tf.constant([[[0.3733658370012269]], [[-0.2519259321739363]], [[0.3968784165696591]], [[0.2034808649757375]], [[-0.22896290024152638]], [[-0.002909409916461785]]], 'float64'), 'key_bias': tf.constant([[0.30368077754974365]], 'float64'), 'value_kernel': tf.constant([[[0.16794991493225098]], [[0.40665507316589355]], [[0.1352721055348714]], [[0.1844491163889567]], [[-0.048468192418416337]], [[0.22977964083353677]]], 'float64'), 'value_bias': tf.constant([[-0.17971551418304443]], 'float64'), 'attention_output_kernel': tf.constant([[[-0.04483366012573242]]], 'float64'), 'attention_output_bias': tf.constant([-0.23411357402801514], 'float64')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
output = layer(query, value, query_mask=query_mask)
print("got ", float(output[0, 0, 0]))
print("want", -0.225041526, "+- 4.4e-16")
