# torch.nn.functional.multi_head_attention_forward 2.13.0+cpu, preconditions. For self-attention with a packed weight
# the bias is broadcast; else it is split, and an axis more is an error.
import torch
query = torch.full((3, 1, 4), 1.0, dtype=torch.float32)
in_proj_weight = torch.full((12, 4), 1.0, dtype=torch.float32)
in_proj_bias = torch.full((1, 12), 1.0, dtype=torch.float32)
out_proj_weight = torch.full((4, 4), 1.0, dtype=torch.float32)
attn_mask = torch.full((3, 3), 1.0, dtype=torch.float32)
static_k = torch.full((2, 3, 2), 1.0, dtype=torch.float32)
static_v = torch.full((2, 3, 2), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.multi_head_attention_forward(query, query, query, 4, 2, in_proj_weight, in_proj_bias, None, None, True, 0.0, out_proj_weight, None, training=False, attn_mask=attn_mask, static_k=static_k, static_v=static_v, average_attn_weights=False, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError or AssertionError: rank of in_proj_bias')
