# torch.nn.functional.scaled_dot_product_attention 2.13.0+cpu, preconditions. Documented as broadcastable to (N, ..., L,
# S); a scalar is taken too, except for rank 4.
import torch
query = torch.full((2, 2, 2, 1, 3), 1.0, dtype=torch.float32)
key = torch.full((2, 2, 2, 1, 3), 1.0, dtype=torch.float32)
value = torch.full((2, 2, 2, 1, 2), 1.0, dtype=torch.float32)
attn_mask = torch.tensor(True, dtype=torch.bool)
try:
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError: rank of attn_mask')
