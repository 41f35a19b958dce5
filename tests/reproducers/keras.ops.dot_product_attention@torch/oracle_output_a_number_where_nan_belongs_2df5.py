# keras.ops.dot_product_attention@torch 3.15.1, oracle. SDPA makes zeros of a row whose logits are all -inf; jax and
# tensorflow give NaN.
import os
from math import inf
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[[0.6577, 0.828, 0.3792], [1.525, -1.174, -0.01984]]], [[[0.6, -0.4055, 0.3535], [0.6655, -1.462, -1.394]]]], dtype=torch.float16)
key = torch.tensor([[[[-0.5396, 0.4897, 0.9624], [-0.35, 0.8364, 0.2128]]], [[[0.407, 1.309, -0.6294], [0.1425, 1.268, 1.37]]]], dtype=torch.float16)
value = torch.tensor([[[[1.239, 0.883, 1.3], [0.902, 1.224, 0.5615]]], [[[0.911, 1.299, 0.754], [1.659, 1.139, 0.04028]]]], dtype=torch.float16)
bias = torch.tensor([[[[-inf]], [[-0.4414]]]], dtype=torch.float16)
output = keras.ops.dot_product_attention(query, key, value, bias=bias)
print("got ", float(output[0, 0, 0, 0]))
print("want", "nan", "+- 6e-08")
