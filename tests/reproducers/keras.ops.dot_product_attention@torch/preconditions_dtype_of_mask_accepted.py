# keras.ops.dot_product_attention@torch 3.15.1, preconditions. Documented as boolean; integers are read as truth values.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((2, 1, 2, 3), 1.0, dtype=torch.float32)
key = torch.full((2, 1, 2, 3), 1.0, dtype=torch.float32)
value = torch.full((2, 1, 2, 3), 1.0, dtype=torch.float32)
mask = torch.tensor([[1]], dtype=torch.int32)
try:
    output = keras.ops.dot_product_attention(query, key, value, mask=mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of mask')
