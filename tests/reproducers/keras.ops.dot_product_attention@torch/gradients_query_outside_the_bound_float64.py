# keras.ops.dot_product_attention@torch 3.15.1, gradients. Keras's rules make float32 of float64, and cast query, key
# and value to it.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[[-1.455549716949463]]]], dtype=torch.float64, requires_grad=True)
key = torch.tensor([[[[0.037142276763916016]], [[0.2800288200378418]]]], dtype=torch.float64, requires_grad=True)
value = torch.tensor([[[[0.8122222423553467]], [[-1.1636955738067627]]]], dtype=torch.float64, requires_grad=True)
d_output = torch.tensor([[[[-1.0284647941589355]]]], dtype=torch.float64)
torch.autograd.backward(keras.ops.dot_product_attention(query, key, value), d_output)
gradient = query.grad
print("got ", float(gradient[0, 0, 0, 0]))
print("want", 0.119619418, "+- 1.4e-15")
