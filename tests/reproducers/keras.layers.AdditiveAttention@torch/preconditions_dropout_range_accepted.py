# keras.layers.AdditiveAttention@torch 3.15.1, preconditions. Documented as a float between 0 and 1; no constructor
# asks, and dropout draws whatever the rate.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((1, 2, 3), 1.0, dtype=torch.float32)
value = torch.full((1, 3, 3), 1.0, dtype=torch.float32)
try:
    layer = keras.layers.AdditiveAttention(dropout=1.5, dtype='float32')
    layer([query, value])
    weights = {'scale': torch.full((3,), 1.0, dtype=torch.float32)}
    [each.assign(weights[each.name]) for each in layer.weights]
    with torch.no_grad():
        output = layer([query, value])
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: dropout-range')
