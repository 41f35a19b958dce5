# torch.nn.functional.multi_head_attention_forward 2.13.0+cpu, preconditions. A negative number of heads is met as a
# shape of attn_mask that cannot be.
import torch
query = torch.full((2, 6), 1.0, dtype=torch.float32)
in_proj_bias = torch.full((18,), 1.0, dtype=torch.float32)
out_proj_weight = torch.full((6, 6), 1.0, dtype=torch.float32)
out_proj_bias = torch.full((6,), 1.0, dtype=torch.float32)
attn_mask = torch.full((2, 2, 2), 1.0, dtype=torch.float32)
q_proj_weight = torch.full((6, 6), 1.0, dtype=torch.float32)
k_proj_weight = torch.full((6, 6), 1.0, dtype=torch.float32)
v_proj_weight = torch.full((6, 6), 1.0, dtype=torch.float32)
static_k = torch.full((2, 2, 3), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.multi_head_attention_forward(query, query, query, 6, -1, None, in_proj_bias, None, None, False, 0.0, out_proj_weight, out_proj_bias, training=False, attn_mask=attn_mask, use_separate_proj_weight=True, q_proj_weight=q_proj_weight, k_proj_weight=k_proj_weight, v_proj_weight=v_proj_weight, static_k=static_k)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised RuntimeError: sizes-positive')
