# keras.layers.MultiHeadAttention@torch 3.15.1, preconditions. Axis 0 is the batch, which the documents except; the
# fused path reads no axes.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((1, 2, 4), 1.0, dtype=torch.float32)
value = torch.full((1, 3, 9), 1.0, dtype=torch.float32)
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=2, value_dim=2, output_shape=4, attention_axes=0, dtype='float32')
    layer(query, value)
    weights = {'query_kernel': torch.full((4, 2, 2), 1.0, dtype=torch.float32), 'query_bias': torch.full((2, 2), 1.0, dtype=torch.float32), 'key_kernel': torch.full((9, 2, 2), 1.0, dtype=torch.float32), 'key_bias': torch.full((2, 2), 1.0, dtype=torch.float32), 'value_kernel': torch.full((9, 2, 2), 1.0, dtype=torch.float32), 'value_bias': torch.full((2, 2), 1.0, dtype=torch.float32), 'attention_output_kernel': torch.full((2, 2, 4), 1.0, dtype=torch.float32), 'attention_output_bias': torch.full((4,), 1.0, dtype=torch.float32)}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    with torch.no_grad():
        output = layer(query, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: one-axis')
