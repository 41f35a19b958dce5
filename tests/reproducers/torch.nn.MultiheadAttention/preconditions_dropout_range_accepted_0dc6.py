# torch.nn.MultiheadAttention 2.13.0+cpu, preconditions. Nothing looks at the rate before it is needed, in training.
import torch
query = torch.full((2, 1, 4), 1.0, dtype=torch.float32)
key = torch.full((3, 1, 4), 1.0, dtype=torch.float32)
value = torch.full((3, 1, 4), 1.0, dtype=torch.float32)
try:
    layer = torch.nn.MultiheadAttention(embed_dim=4, num_heads=2, dropout=1.5, kdim=4, vdim=4).to(torch.float32).eval()
    layer.load_state_dict({'in_proj_weight': torch.full((12, 4), 1.0, dtype=torch.float32), 'in_proj_bias': torch.full((12,), 1.0, dtype=torch.float32), 'out_proj.weight': torch.full((4, 4), 1.0, dtype=torch.float32), 'out_proj.bias': torch.full((4,), 1.0, dtype=torch.float32)})
    with torch.no_grad():
        output = layer(query, key, value)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: dropout-range')
