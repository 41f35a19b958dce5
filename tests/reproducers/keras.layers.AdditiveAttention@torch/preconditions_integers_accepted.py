# keras.layers.AdditiveAttention@torch 3.15.1, preconditions. Integer inputs are computed with, and give integers or
# floats as the backend has it.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((1, 2, 3), 1, dtype=torch.int32)
value = torch.full((1, 3, 3), 1, dtype=torch.int32)
try:
    layer = keras.layers.AdditiveAttention(dtype='float32')
    layer([query, value])
    weights = {'scale': torch.full((3,), 1.0, dtype=torch.float32)}
    [each.assign(weights[each.name]) for each in layer.weights]
    with torch.no_grad():
        output = layer([query, value])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: integers')
