# keras.layers.AdditiveAttention@torch 3.15.1, oracle. The fill for float16 is chosen by `dtype == 'float16'`, which a
# torch dtype never is: -1e9 overflows to -inf, and a query that sees nothing is NaN.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
value_mask = torch.tensor([[False]], dtype=torch.bool)
query = torch.tensor([[[-0.1163]]], dtype=torch.float16)
value = torch.tensor([[[1.641]]], dtype=torch.float16)
layer = keras.layers.AdditiveAttention(dtype='float16')
layer([query, value], mask=[None, value_mask])
weights = {'scale': torch.tensor([0.451], dtype=torch.float16)}
[each.assign(weights[each.name]) for each in layer.weights]
with torch.no_grad():
    output = layer([query, value], mask=[None, value_mask])
print("got ", float(output[0, 0, 0]))
print("want", 1.640625, "+- 0.014")
