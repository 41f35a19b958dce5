# keras.layers.GroupQueryAttention@torch 3.15.1, preconditions. Documented as boolean; numbers are taken, not by one
# rule: what is not 0, or what is over 0.5.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query, value, key, attention_mask = torch.full((1, 3, 4), 1.0, dtype=torch.float32), torch.full((1, 4, 4), 1.0, dtype=torch.float32), torch.full((1, 4, 7), 1.0, dtype=torch.float32), torch.full((1, 4), 1, dtype=torch.int32)
try:
    layer = keras.layers.GroupQueryAttention(head_dim=2, num_query_heads=2, num_key_value_heads=1, dropout=0.25, use_bias=False, dtype='float32')
    layer(query, value, key=key, attention_mask=attention_mask, use_causal_mask=True)
    weights = {'query_kernel': torch.full((4, 2, 2), 1.0, dtype=torch.float32), 'key_kernel': torch.full((7, 1, 2), 1.0, dtype=torch.float32), 'value_kernel': torch.full((4, 1, 2), 1.0, dtype=torch.float32), 'attention_output_kernel': torch.full((2, 2, 4), 1.0, dtype=torch.float32)}
    [each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
    with torch.no_grad():
        output = layer(query, value, key=key, attention_mask=attention_mask, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: dtype of attention_mask')
