# torch.nn.functional.multi_head_attention_forward 2.13.0+cpu, preconditions. Key and value are compared with each
# other, and with query only by the product of matrices.
import torch
query = torch.full((1, 1, 16), 1.0, dtype=torch.float32)
key = torch.full((9, 1, 23), 1.0, dtype=torch.float32)
in_proj_weight = torch.full((48, 16), 1.0, dtype=torch.float32)
out_proj_weight = torch.full((16, 16), 1.0, dtype=torch.float32)
out_proj_bias = torch.full((16,), 1.0, dtype=torch.float32)
key_padding_mask = torch.full((1, 9), True, dtype=torch.bool)
attn_mask = torch.full((2, 1, 9), True, dtype=torch.bool)
try:
    output = torch.nn.functional.multi_head_attention_forward(query, key, key, 16, 2, in_proj_weight, None, None, None, True, 0.0, out_proj_weight, out_proj_bias, key_padding_mask=key_padding_mask, attn_mask=attn_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised AssertionError: features-alike')
