# keras.layers.AdditiveAttention@torch 3.15.1, gradients. As above: float64 in float32.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[-1.455549716949463]]], dtype=torch.float64, requires_grad=True)
value = torch.tensor([[[1.018571138381958], [-1.109985589981079]]], dtype=torch.float64, requires_grad=True)
d_output = torch.tensor([[[0.1726088523864746]]], dtype=torch.float64)
layer = keras.layers.AdditiveAttention(dtype='float64')
layer([query, value])
weights = {'scale': torch.tensor([0.6244444847106934], dtype=torch.float64, requires_grad=True)}
[each.assign(weights[each.name]) for each in layer.weights]
torch.autograd.backward(layer([query, value]), d_output)
gradient = query.grad
print("got ", float(gradient[0, 0, 0]))
print("want", 0.0448492344, "+- 8.5e-16")
