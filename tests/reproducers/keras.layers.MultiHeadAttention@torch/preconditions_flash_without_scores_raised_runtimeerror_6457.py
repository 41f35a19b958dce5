# keras.layers.MultiHeadAttention@torch 3.15.1, preconditions. As above: masks are joined before anything else is looked
# at.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query, value, attention_mask = torch.full((2, 2, 2, 5), 1.0, dtype=torch.float32), torch.full((2, 1, 3, 10), 1.0, dtype=torch.float32), torch.full((2, 2, 1, 1, 3, 1), 1, dtype=torch.int32)
try:
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4, value_dim=4, dropout=0.25, output_shape=5, attention_axes=(2, 1), dtype='float32')
    layer(query, value, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    weights = {'query_kernel': torch.full((5, 2, 4), 1.0, dtype=torch.float32), 'query_bias': torch.full((2, 4), 1.0, dtype=torch.float32), 'key_kernel': torch.full((10, 2, 4), 1.0, dtype=torch.float32), 'key_bias': torch.full((2, 4), 1.0, dtype=torch.float32), 'value_kernel': torch.full((10, 2, 4), 1.0, dtype=torch.float32), 'value_bias': torch.full((2, 4), 1.0, dtype=torch.float32), 'attention_output_kernel': torch.full((2, 4, 5), 1.0, dtype=torch.float32), 'attention_output_bias': torch.full((5,), 1.0, dtype=torch.float32)}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    with torch.no_grad():
        output = layer(query, value, attention_mask=attention_mask, return_attention_scores=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: positions-of-one-axis')
