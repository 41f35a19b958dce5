# keras.layers.MultiHeadAttention@torch 3.15.1, preconditions. As above: query_mask is not read.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query, value, key, query_mask, value_mask, attention_mask = torch.full((2, 1, 5), 1.0, dtype=torch.float32), torch.full((2, 1, 10), 1.0, dtype=torch.float32), torch.full((2, 1, 8), 1.0, dtype=torch.float32), torch.full((3, 1), True, dtype=torch.bool), torch.tensor([[True], [True]], dtype=torch.bool), torch.tensor([[[True]], [[True]]], dtype=torch.bool)
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=2, dropout=0.25, use_bias=False, attention_axes=1, sliding_window=3, flash_attention=False, dtype='float32')
    layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, attention_mask=attention_mask)
    weights = {'query_kernel': torch.full((5, 2, 3), 1.0, dtype=torch.float32), 'key_kernel': torch.full((8, 2, 3), 1.0, dtype=torch.float32), 'value_kernel': torch.full((10, 2, 2), 1.0, dtype=torch.float32), 'attention_output_kernel': torch.full((2, 2, 5), 1.0, dtype=torch.float32)}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    with torch.no_grad():
        output = layer(query, value, key=key, query_mask=query_mask, value_mask=value_mask, attention_mask=attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: B of query_mask')
