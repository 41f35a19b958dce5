# torch.nn.functional.multi_head_attention_forward 2.13.0+cpu, preconditions. With weights the same rate raises
# ValueError.
import torch
query = torch.full((3, 8), 1.0, dtype=torch.float32)
key = torch.full((2, 11), 1.0, dtype=torch.float32)
in_proj_bias = torch.full((24,), 1.0, dtype=torch.float32)
out_proj_weight = torch.full((8, 8), 1.0, dtype=torch.float32)
out_proj_bias = torch.full((8,), 1.0, dtype=torch.float32)
attn_mask = torch.full((3, 2), True, dtype=torch.bool)
q_proj_weight = torch.full((8, 8), 1.0, dtype=torch.float32)
k_proj_weight = torch.full((8, 11), 1.0, dtype=torch.float32)
v_proj_weight = torch.full((8, 11), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.multi_head_attention_forward(query, key, key, 8, 2, None, in_proj_bias, None, None, False, 1.5, out_proj_weight, out_proj_bias, need_weights=False, attn_mask=attn_mask, use_separate_proj_weight=True, q_proj_weight=q_proj_weight, k_proj_weight=k_proj_weight, v_proj_weight=v_proj_weight, average_attn_weights=False, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: dropout-range')
