# keras.layers.AdditiveAttention@torch 3.15.1, preconditions. Documented as boolean; numbers are taken for True where
# they are not 0.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((2, 1, 3), 1.0, dtype=torch.float32)
value = torch.full((2, 1, 2), 1.0, dtype=torch.float32)
key = torch.full((2, 1, 3), 1.0, dtype=torch.float32)
query_mask = torch.tensor([[1], [1]], dtype=torch.int32)
try:
    layer = keras.layers.AdditiveAttention(use_scale=False, dropout=0.25, dtype='float32')
    layer([query, value, key], mask=[query_mask, None])
    with torch.no_grad():
        output = layer([query, value, key], mask=[query_mask, None])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of query_mask')
