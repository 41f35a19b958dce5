# keras.ops.dot_product_attention@torch 3.15.1, gradients. SDPA makes zeros of a row whose logits are all -inf; jax and
# tensorflow give NaN.
import os
from math import inf, nan
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[[0.6577, 0.828, 0.3792], [1.525, -1.174, -0.01984]]], [[[0.6, -0.4055, 0.3535], [0.6655, -1.462, -1.394]]]], dtype=torch.float16, requires_grad=True)
key = torch.tensor([[[[-0.5396, 0.4897, 0.9624], [-0.35, 0.8364, 0.2128]]], [[[0.407, 1.309, -0.6294], [0.1425, 1.268, 1.37]]]], dtype=torch.float16, requires_grad=True)
value = torch.tensor([[[[1.239, 0.883, 1.3], [0.902, 1.224, 0.5615]]], [[[0.911, 1.299, 0.754], [1.659, 1.139, 0.04028]]]], dtype=torch.float16, requires_grad=True)
bias = torch.tensor([[[[-inf]], [[-0.4414]]]], dtype=torch.float16, requires_grad=True)
d_output = torch.tensor([[[[1.781, -0.6, 1.345], [-0.351, 1.399, -0.8867]]], [[[-0.8296, -1.48, 0.3064], [-0.3508, -1.013, 1.038]]]], dtype=torch.float16)
torch.autograd.backward(keras.ops.dot_product_attention(query, key, value, bias=bias), d_output)
gradient = query.grad
print("got ", float(gradient[0, 0, 0, 0]))
print("want", "nan", "+- nan")
