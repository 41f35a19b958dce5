# keras.ops.dot_product_attention@torch 3.15.1, oracle. Keras's rules make float32 of float64, and cast query, key and
# value to it.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[[-1.455549716949463]]]], dtype=torch.float64)
key = torch.tensor([[[[0.037142276763916016]]]], dtype=torch.float64)
value = torch.tensor([[[[1.140014410018921]]]], dtype=torch.float64)
output = keras.ops.dot_product_attention(query, key, value)
print("got ", output.dtype)
print("want", '`output` is dtype float32, expected float64')
