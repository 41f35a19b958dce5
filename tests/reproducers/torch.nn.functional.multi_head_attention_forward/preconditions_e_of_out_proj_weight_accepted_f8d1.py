# torch.nn.functional.multi_head_attention_forward 2.13.0+cpu, preconditions. Documented to give the features of query;
# any number of features is taken, unless out_proj_bias says otherwise.
import torch
query = torch.full((2, 1, 4), 1.0, dtype=torch.float32)
key = torch.full((3, 1, 4), 1.0, dtype=torch.float32)
value = torch.full((3, 1, 4), 1.0, dtype=torch.float32)
in_proj_weight = torch.full((12, 4), 1.0, dtype=torch.float32)
out_proj_weight = torch.full((5, 4), 1.0, dtype=torch.float32)
try:
    output = torch.nn.functional.multi_head_attention_forward(query, key, value, 4, 2, in_proj_weight, None, None, None, False, 0.0, out_proj_weight, None)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError or AssertionError: E of out_proj_weight')
