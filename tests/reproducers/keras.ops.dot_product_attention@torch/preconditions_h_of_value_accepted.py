# keras.ops.dot_product_attention@torch 3.15.1, preconditions. Documented as a value of the same shape as key; its own
# head dim is taken.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((1, 2, 2, 2), 1.0, dtype=torch.float32)
key = torch.full((1, 3, 1, 2), 1.0, dtype=torch.float32)
value = torch.full((1, 3, 1, 3), 1.0, dtype=torch.float32)
try:
    output = keras.ops.dot_product_attention(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: H of value')
