# keras.layers.Attention@torch 3.15.1, gradients. As above: float64 in float32.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[-1.455549716949463]]], dtype=torch.float64, requires_grad=True)
value = torch.tensor([[[1.018571138381958], [-1.109985589981079]]], dtype=torch.float64, requires_grad=True)
d_output = torch.tensor([[[-0.37555551528930664]]], dtype=torch.float64)
layer = keras.layers.Attention(dtype='float64')
layer([query, value])
torch.autograd.backward(layer([query, value]), d_output)
gradient = query.grad
print("got ", float(gradient[0, 0, 0]))
print("want", -0.0703014876, "+- 4.9e-15")
