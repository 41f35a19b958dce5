# keras.layers.AdditiveAttention@torch 3.15.1, gradients. As above: -inf in place of -65504.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
value_mask = torch.tensor([[False]], dtype=torch.bool)
query = torch.tensor([[[-1.455, 0.03714]]], dtype=torch.float16, requires_grad=True)
value = torch.tensor([[[1.14, 0.812]]], dtype=torch.float16, requires_grad=True)
d_output = torch.tensor([[[-0.1621, 0.4177]]], dtype=torch.float16)
layer = keras.layers.AdditiveAttention(dtype='float16')
layer([query, value], mask=[None, value_mask])
weights = {'scale': torch.tensor([0.5864, -0.01423], dtype=torch.float16, requires_grad=True)}
[each.assign(weights[each.name]) for each in layer.weights]
torch.autograd.backward(layer([query, value], mask=[None, value_mask]), d_output)
gradient = query.grad
print("got ", float(gradient[0, 0, 0]))
print("want", 0, "+- 0.0035")
