# torch.nn.functional.scaled_dot_product_attention 2.13.0+cpu, preconditions. Documented as a probability; a negative
# one drops nothing, where one over 1 is an error.
import torch
query = torch.full((1, 2, 2, 2), 1.0, dtype=torch.float32)
key = torch.full((1, 1, 3, 2), 1.0, dtype=torch.float32)
value = torch.full((1, 1, 3, 3), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=-0.5)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised RuntimeError: dropout-range')
