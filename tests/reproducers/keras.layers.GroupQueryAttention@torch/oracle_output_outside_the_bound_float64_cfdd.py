# keras.layers.GroupQueryAttention@torch 3.15.1, oracle. keras.ops.dot_product_attention computes float64 in float32:
# its result type of float64 tensors is float32.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[-1.455549716949463]]], dtype=torch.float64)
value = torch.tensor([[[1.018571138381958]]], dtype=torch.float64)
layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=1, num_key_value_heads=1, dtype='float64')
layer(query, value)
weights = {'query_kernel': torch.tensor([[[0.1400144100189209]]], dtype=torch.float64), 'query_bias': torch.tensor([[-0.09388887882232666]], dtype=torch.float64), 'key_kernel': torch.tensor([[[0.0863044261932373]]], dtype=torch.float64), 'key_bias': torch.tensor([[-0.2571161985397339]], dtype=torch.float64), 'value_kernel': torch.tensor([[[0.8378567695617676]]], dtype=torch.float64), 'value_bias': torch.tensor([[0.10441195964813232]], dtype=torch.float64), 'attention_output_kernel': torch.tensor([[[0.5846514701843262]]], dtype=torch.float64), 'attention_output_bias': torch.tensor([-0.21551620960235596], dtype=torch.float64)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with torch.no_grad():
    output = layer(query, value)
print("got ", float(output[0, 0, 0]))
print("want", 0.344479738, "+- 2.9e-15")
