# keras.layers.Attention@torch 3.15.1, preconditions. Documented with shapes (B, T, dim), (B, S, dim), (B, T) and (B,
# S); one of them with an axis more is broadcast.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.full((1, 2, 1, 2), 1.0, dtype=torch.float32)
value = torch.full((2, 1, 2), 1.0, dtype=torch.float32)
try:
    layer = keras.layers.Attention(score_mode='concat', dropout=0.25, dtype='float32')
    layer([query, value], return_attention_scores=True, use_causal_mask=True)
    weights = {'concat_score_weight': torch.tensor(1.0, dtype=torch.float32)}
    [each.assign(weights[each.name]) for each in layer.weights]
    with torch.no_grad():
        output = layer([query, value], return_attention_scores=True, use_causal_mask=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of query')
