# keras.layers.MultiHeadAttention@jax 3.15.1, oracle. As above, where the sizes happen to fit.
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras
import jax
query_mask = jax.numpy.full((1, 1, 3), True, dtype='bool')
value_mask = jax.numpy.full((1, 1, 4), True, dtype='bool')
key_mask = jax.numpy.array([[[False, True, True, False]]], 'bool')
attention_mask = jax.numpy.array([[1, 7, 0, 1], [-1, 0, 2, 0], [2, 2, 0, 7]], 'int32')
query = jax.numpy.array([[[[-1.455, 0.03714, 0.28, -0.3755], [0.1726, -1.028, -0.1621, 0.4177], [-0.4153, -0.8623, -0.6147, 0.857]]]], 'float16')
value = jax.numpy.array([[[[0.423, 1.659, 1.421, 0.9443, 1.113, 0.8223, 2.082, 1.04, 0.2], [-1.127, -0.769, -0.329, -1.289, -1.563, -1.894, -0.7207, -0.7373, -0.9585], [-0.8096, -1.024, -2.234, -1.71, -1.89, -0.799, -2.05, -1.122, -1.65], [1.918, 2.186, 1.925, 1.85, 1.638, 1.565, 2.273, 2.498, 1.064]]]], 'float16')
key = jax.numpy.array([[[[-0.6997, 0.0999, -0.1263, 0.05914, 1.57, -0.1072, -0.6533], [0.6025, -0.0627, -1.094, 1.13, 0.652, 0.3025, -0.314], [-0.7515, 0.1029, 0.546, 1.394, 0.01724, 0.907, -0.404], [0.5137, 0.1327, -0.3281, -0.613, 1.164, 1.232, 0.969]]]], 'float16')
layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, use_bias=False, attention_axes=2, flash_attention=False, dtype='float16')
layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask, attention_mask=attention_mask, training=True, use_causal_mask=True)
weights = {'query_kernel': jax.numpy.array([[[-0.08014, 0.3884], [0.12054, 0.2228]], [[-0.3354, -0.03568], [0.1914, 0.1027]], [[0.4214, 0.001957], [0.2216, 0.0662]], [[-0.3188, -0.193], [0.003546, -0.05557]]], 'float16'), 'key_kernel': jax.numpy.array([[[0.2125, 0.1635], [0.1774, 0.3354]], [[-0.1218, 0.1153], [-0.1299, 0.074]], [[-0.02644, -0.11993], [-0.0198, 0.01546]], [[-0.07947, 0.0329], [-0.3647, 0.2837]], [[0.0772, 0.1172], [-0.12146, -0.247]], [[-0.2126, 0.1808], [0.01306, 0.283]], [[-0.0669, -0.01791], [-0.08435, 0.1475]]], 'float16'), 'value_kernel': jax.numpy.array([[[0.2343, 0.188], [-0.02051, 0.1594]], [[0.0936, 0.1299], [0.3145, -0.02602]], [[0.3271, 0.2219], [-0.01352, 0.1095]], [[0.2461, 0.11194], [0.271, 0.0902]], [[0.123, -0.03232], [0.1532, 0.03123]], [[-0.004982, 0.00706], [-2.486e-05, 0.23]], [[0.0866, 0.2384], [0.1653, 0.002432]], [[0.12134, 0.1316], [0.1759, 0.0541]], [[-0.0926, 0.1155], [0.10297, 0.02002]]], 'float16'), 'attention_output_kernel': jax.numpy.array([[[0.6147, 0.477, 0.3228, 0.3872], [0.6025, 0.154, -0.10675, 0.5527]], [[-0.2174, -0.1597, 0.0156, 0.0449], [0.2634, -0.10834, 0.2546, 0.546]]], 'float16')}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
output = jax.jit(lambda query_mask, value_mask, key_mask, attention_mask, query, value, key: layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask, attention_mask=attention_mask, training=True, use_causal_mask=True))(query_mask, value_mask, key_mask, attention_mask, query, value, key)
print("got ", float(output[0, 0, 1, 3]))
print("want", 0, "+- 1.6e-06")
