# keras.layers.Attention@torch 3.15.1, preconditions. Documented as boolean; numbers are taken for True where they are
# not 0.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((1, 3, 3), 1.0, dtype=torch.float32)
value = torch.full((1, 4, 3), 1.0, dtype=torch.float32)
value_mask = torch.full((1, 4), 1, dtype=torch.int32)
try:
    layer = keras.layers.Attention(dtype='float32')
    layer([query, value], mask=[None, value_mask])
    with torch.no_grad():
        output = layer([query, value], mask=[None, value_mask])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of value_mask')
