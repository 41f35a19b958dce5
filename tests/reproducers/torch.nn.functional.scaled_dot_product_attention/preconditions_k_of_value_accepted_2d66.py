# torch.nn.functional.scaled_dot_product_attention 2.13.0+cpu, preconditions. Documented as the same number of heads in
# key and value; each is repeated on its own.
import torch
query = torch.full((6, 7, 5), 1.0, dtype=torch.float32)
key = torch.full((2, 4, 5), 1.0, dtype=torch.float32)
value = torch.full((3, 4, 3), 1.0, dtype=torch.float32)
attn_mask = torch.tensor([1.0], dtype=torch.float32)
try:
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, scale=1.75, enable_gqa=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: K of value')
