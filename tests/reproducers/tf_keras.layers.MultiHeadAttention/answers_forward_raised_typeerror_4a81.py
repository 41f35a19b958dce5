# tf_keras.layers.MultiHeadAttention 2.21.0, answers. Documented as 1 for attention and 0 for none; with
# softmax_robust_masking a mask is compared with 0.5, which no integer can be.
import tf_keras
import tensorflow as tf
attention_mask = tf.constant([[0]], 'int32')
query = tf.constant([[[-1.455]]], 'float16')
value = tf.constant([[[1.019, 1.14, 0.812, 1.086, 0.4858, 0.919]]], 'float16')
try:
    layer = tf_keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, softmax_robust_masking=True, dtype='float16')
    layer(query, value, attention_mask=attention_mask)
    weights = {'query_kernel': tf.constant([[[0.2089]]], 'float16'), 'query_bias': tf.constant([[-0.1038]], 'float16'), 'key_kernel': tf.constant([[[-0.176]], [[-0.1255]], [[0.1749]], [[-0.2355]], [[0.269]], [[0.1718]]], 'float16'), 'key_bias': tf.constant([[-0.02771]], 'float16'), 'value_kernel': tf.constant([[[0.2046]], [[0.1075]], [[0.5273]], [[0.1799]], [[-0.10004]], [[0.2076]]], 'float16'), 'value_bias': tf.constant([[0.2405]], 'float16'), 'attention_output_kernel': tf.constant([[[2.842]]], 'float16'), 'attention_output_bias': tf.constant([-0.01964], 'float16')}
    [each.assign(weights['_'.join(each.name[:-2].split('/')[-2:])]) for each in layer.weights]
    output = layer(query, value, attention_mask=attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
