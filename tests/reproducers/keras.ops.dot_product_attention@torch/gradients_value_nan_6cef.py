# keras.ops.dot_product_attention@torch 3.15.1, gradients. The mask is added: a hidden key that is not finite reaches
# its rows.
import os
from math import nan
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
mask = torch.tensor([[[[False]]]], dtype=torch.bool)
query = torch.tensor([[[[-0.4889884]]]], dtype=torch.float32, requires_grad=True)
key = torch.tensor([[[[nan]]]], dtype=torch.float32, requires_grad=True)
value = torch.tensor([[[[0.63198304]]]], dtype=torch.float32, requires_grad=True)
d_output = torch.tensor([[[[1.8459868]]]], dtype=torch.float32)
torch.autograd.backward(keras.ops.dot_product_attention(query, key, value, mask=mask), d_output)
gradient = value.grad
print("got ", float(gradient[0, 0, 0, 0]))
print("want", 1.84598684, "+- 2.5e-06")
