# torch.nn.functional.scaled_dot_product_attention 2.13.0+cpu, preconditions. Documented with the heads of query in key
# and value; a single head of query is broadcast to theirs.
import torch
query = torch.full((1, 1, 2, 2), 1.0, dtype=torch.float32)
key = torch.full((1, 2, 3, 2), 1.0, dtype=torch.float32)
value = torch.full((1, 2, 3, 3), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised RuntimeError: heads-match')
