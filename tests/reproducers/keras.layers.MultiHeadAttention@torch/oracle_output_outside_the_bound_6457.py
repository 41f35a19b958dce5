# keras.layers.MultiHeadAttention@torch 3.15.1, oracle. As above, where the sizes happen to fit.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[[-1.455]]]], dtype=torch.float16)
value = torch.tensor([[[[1.019, 1.14, 0.812, 1.086, 0.4858, 0.919], [-1.041, -1.458, -1.681, -1.558, -0.822, -1.827], [-0.8413, -1.079, -1.556, -1.387, -1.678, -0.418]]]], dtype=torch.float16)
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, attention_axes=2, sliding_window=1, dtype='float16')
layer(query, value)
weights = {'query_kernel': torch.tensor([[[0.03964]]], dtype=torch.float16), 'query_bias': torch.tensor([[-0.4]], dtype=torch.float16), 'key_kernel': torch.tensor([[[0.05026]], [[0.1964]], [[0.376]], [[-0.01604]], [[-0.1282]], [[-0.2625]]], dtype=torch.float16), 'key_bias': torch.tensor([[0.2646]], dtype=torch.float16), 'value_kernel': torch.tensor([[[0.3374]], [[0.264]], [[0.3967]], [[0.3252]], [[-0.0781]], [[0.09656]]], dtype=torch.float16), 'value_bias': torch.tensor([[-0.1948]], dtype=torch.float16), 'attention_output_kernel': torch.tensor([[[2.402]]], dtype=torch.float16), 'attention_output_bias': torch.tensor([-0.2756], dtype=torch.float16)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with torch.no_grad():
    output = layer(query, value)
print("got ", float(output[0, 0, 0, 0]))
print("want", 2.54874052, "+- 0.041")
