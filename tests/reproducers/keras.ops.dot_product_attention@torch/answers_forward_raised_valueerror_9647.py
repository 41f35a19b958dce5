# keras.ops.dot_product_attention@torch 3.15.1, answers. Both arguments are documented, and no word says that one
# excludes the other.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
mask = torch.tensor([False], dtype=torch.bool)
query = torch.tensor([[[[-1.453125]]]], dtype=torch.bfloat16)
key = torch.tensor([[[[0.037109375]]]], dtype=torch.bfloat16)
value = torch.tensor([[[[1.140625]]]], dtype=torch.bfloat16)
bias = torch.tensor([[[[-0.375]]]], dtype=torch.bfloat16)
try:
    output = keras.ops.dot_product_attention(query, key, value, bias=bias, mask=mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
