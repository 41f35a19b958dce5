# torch.nn.functional.scaled_dot_product_attention 2.13.0+cpu, preconditions. The CPU's flash kernel does not compare
# the lengths of key and value: keys past the shorter one are dropped, or value is read past its end.
import torch
query = torch.full((2, 4, 7, 6), 1.0, dtype=torch.float32)
key = torch.full((2, 2, 11, 6), 1.0, dtype=torch.float32)
value = torch.full((2, 2, 12, 6), 1.0, dtype=torch.float32)
attn_mask = torch.tensor([[1.0]], dtype=torch.float32)
try:
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, scale=0.5, enable_gqa=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: S of value')
