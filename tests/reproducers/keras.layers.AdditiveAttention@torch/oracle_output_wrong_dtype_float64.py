# keras.layers.AdditiveAttention@torch 3.15.1, oracle. keras.ops.matmul computes float64 in float32 on torch: its result
# type of float64 tensors is float32.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[-1.455549716949463]]], dtype=torch.float64)
value = torch.tensor([[[1.018571138381958]]], dtype=torch.float64)
layer = keras.layers.AdditiveAttention(dtype='float64')
layer([query, value])
weights = {'scale': torch.tensor([1.2800288200378418], dtype=torch.float64)}
[each.assign(weights[each.name]) for each in layer.weights]
with torch.no_grad():
    output = layer([query, value])
print("got ", output.dtype)
print("want", '`output` is dtype float32, expected float64')
