# keras.layers.MultiHeadAttention@torch 3.15.1, preconditions. As above: heads are lined up with the batch.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query, value, attention_mask, value_mask = torch.full((3, 7, 7), 1.0, dtype=torch.float32), torch.full((3, 4, 12), 1.0, dtype=torch.float32), torch.full((1, 6, 1, 4), True, dtype=torch.bool), torch.full((3, 4), True, dtype=torch.bool)
try:
    layer = keras.layers.MultiHeadAttention(num_heads=6, key_dim=5, value_dim=5, use_bias=False, output_shape=7, attention_axes=1, sliding_window=3, dtype='float32')
    layer(query, value, value_mask=value_mask, attention_mask=attention_mask)
    weights = {'query_kernel': torch.full((7, 6, 5), 1.0, dtype=torch.float32), 'key_kernel': torch.full((12, 6, 5), 1.0, dtype=torch.float32), 'value_kernel': torch.full((12, 6, 5), 1.0, dtype=torch.float32), 'attention_output_kernel': torch.full((6, 5, 7), 1.0, dtype=torch.float32)}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    with torch.no_grad():
        output = layer(query, value, value_mask=value_mask, attention_mask=attention_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-alone')
