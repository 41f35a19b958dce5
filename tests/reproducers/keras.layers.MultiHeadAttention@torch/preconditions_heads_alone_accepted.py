# keras.layers.MultiHeadAttention@torch 3.15.1, preconditions. A mask with an axis of heads has it lined up with the
# batch of a mask of padding.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query, value, key, attention_mask, value_mask = torch.full((1, 6, 8), 1.0, dtype=torch.float32), torch.full((1, 6, 13), 1.0, dtype=torch.float32), torch.full((1, 6, 11), 1.0, dtype=torch.float32), torch.full((1, 4, 1, 6), 1, dtype=torch.int32), torch.full((1, 6), True, dtype=torch.bool)
try:
    layer = keras.layers.MultiHeadAttention(num_heads=4, key_dim=8, value_dim=8, output_shape=15, use_gate=True, dtype='float32')
    layer(query, value, key=key, value_mask=value_mask, attention_mask=attention_mask, return_attention_scores=True, training=False, use_causal_mask=True)
    weights = {'query_kernel': torch.full((8, 4, 8), 1.0, dtype=torch.float32), 'query_bias': torch.full((4, 8), 1.0, dtype=torch.float32), 'key_kernel': torch.full((11, 4, 8), 1.0, dtype=torch.float32), 'key_bias': torch.full((4, 8), 1.0, dtype=torch.float32), 'gate_kernel': torch.full((8, 4, 8), 1.0, dtype=torch.float32), 'gate_bias': torch.full((4, 8), 1.0, dtype=torch.float32), 'value_kernel': torch.full((13, 4, 8), 1.0, dtype=torch.float32), 'value_bias': torch.full((4, 8), 1.0, dtype=torch.float32), 'attention_output_kernel': torch.full((4, 8, 15), 1.0, dtype=torch.float32), 'attention_output_bias': torch.full((15,), 1.0, dtype=torch.float32)}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    with torch.no_grad():
        output = layer(query, value, key=key, value_mask=value_mask, attention_mask=attention_mask, return_attention_scores=True, training=False, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: heads-alone')
