# keras.layers.MultiHeadAttention@torch 3.15.1, oracle. Rows that query_mask hides attend, and over several axes masks
# meet other axes: to keys that nobody should see, which may be NaN.
import os
from math import nan
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query_mask, value_mask, key_mask, attention_mask, query, value, key = torch.tensor([[[False, True, True]]], dtype=torch.bool), torch.full((1, 1, 4), True, dtype=torch.bool), torch.full((1, 1, 4), True, dtype=torch.bool), torch.tensor([[-1, 1, 7, -1], [2, 7, 1, 2], [2, -1, 7, 7]], dtype=torch.int32), torch.tensor([[[[-2.191, -0.5312, -0.9614, 0.4048], [-0.3777, -1.462, -0.812, -0.2433], [0.2174, -0.997, 1.988, 0.8574]]]], dtype=torch.float16), torch.tensor([[[[1.242, 0.659, 0.4365, 1.063, 0.5615, 1.145, 1.666, 0.5464, 0.08325], [-1.201, -0.2896, -0.782, -1.273, -1.284, -0.4, -1.096, -1.38, -0.5063], [-1.982, -1.148, -1.535, -1.254, -1.051, -1.433, -0.6304, -1.807, -2.416], [1.364, 2.107, 1.342, 1.787, 1.413, 1.79, 2.166, 1.8955, 2.293]]]], dtype=torch.float16), torch.tensor([[[[-1.253, -2.053, -0.1948, 1.883, 0.692, -0.1962, -2.104], [1.933, 2.521, 0.3076, -0.2505, -1.602, 0.9736, -0.11584], [-2.408, -0.923, 2.545, 0.898, -0.7715, 1.862, -1.013], [nan, nan, nan, nan, nan, nan, nan]]]], dtype=torch.float16)
layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, use_bias=False, attention_axes=2, flash_attention=False, dtype='float16')
layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask, attention_mask=attention_mask, training=True, use_causal_mask=True)
weights = {'query_kernel': torch.tensor([[[0.5127, 0.601], [-0.2119, -0.07697]], [[0.09607, -0.3687], [-0.341, 0.2131]], [[-0.055, 0.171], [0.2773, 0.4753]], [[-0.1777, -0.004303], [-0.0331, -0.2351]]], dtype=torch.float16), 'key_kernel': torch.tensor([[[-0.2874, -0.076], [0.261, -0.4507]], [[-0.1093, -0.1602], [0.1978, 0.3604]], [[0.289, -0.192], [-0.10565, -0.0333]], [[0.1462, -0.2311], [-0.1024, 0.08484]], [[-0.1942, 0.311], [0.4016, -0.1599]], [[-0.1614, 0.2966], [-0.3704, -0.1127]], [[0.2208, -0.06647], [0.0709, -0.0988]]], dtype=torch.float16), 'value_kernel': torch.tensor([[[-0.05847, 0.0698], [0.2035, 0.09955]], [[0.11285, 0.3093], [0.16, 0.2104]], [[0.03265, 0.072], [-0.0753, -0.1458]], [[0.3218, 0.3516], [0.0711, 0.369]], [[0.3093, 0.1632], [0.1958, 0.1313]], [[0.2238, 0.1449], [0.265, 0.2167]], [[-0.05753, 0.2844], [0.1599, 0.01512]], [[0.038, 0.00841], [0.10547, 0.1282]], [[-0.04056, 0.238], [0.01633, -0.1075]]], dtype=torch.float16), 'attention_output_kernel': torch.tensor([[[0.2437, 0.2307, 0.2422, 0.259], [0.3772, 0.2316, 0.1754, 0.358]], [[0.0805, 0.3835, 0.2362, 0.2666], [0.3032, 0.4922, 0.04407, 0.1758]]], dtype=torch.float16)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with torch.no_grad():
    output = layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, key_mask=key_mask, attention_mask=attention_mask, training=True, use_causal_mask=True)
print("got ", float(output[0, 0, 0, 0]))
print("want", 0, "+- 1.2e-06")
