# torch.nn.functional.multi_head_attention_forward 2.13.0+cpu, preconditions. Where key is also the value, and static_k
# and static_v take the place of both, its batch is not looked at.
import torch
query, key, in_proj_bias, out_proj_weight, out_proj_bias, key_padding_mask, q_proj_weight, k_proj_weight, v_proj_weight, static_k, static_v = torch.full((1, 2, 6), 1.0, dtype=torch.float32), torch.full((1, 3, 9), 1.0, dtype=torch.float32), torch.full((18,), 1.0, dtype=torch.float32), torch.full((6, 6), 1.0, dtype=torch.float32), torch.full((6,), 1.0, dtype=torch.float32), torch.tensor([[1.0], [1.0]], dtype=torch.float32), torch.full((6, 6), 1.0, dtype=torch.float32), torch.full((6, 9), 1.0, dtype=torch.float32), torch.full((6, 9), 1.0, dtype=torch.float32), torch.full((4, 1, 3), 1.0, dtype=torch.float32), torch.full((4, 1, 3), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.multi_head_attention_forward(query, key, key, 6, 2, None, in_proj_bias, None, None, False, 0.0, out_proj_weight, out_proj_bias, key_padding_mask=key_padding_mask, use_separate_proj_weight=True, q_proj_weight=q_proj_weight, k_proj_weight=k_proj_weight, v_proj_weight=v_proj_weight, static_k=static_k, static_v=static_v, average_attn_weights=False)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError or AssertionError: B of key')
