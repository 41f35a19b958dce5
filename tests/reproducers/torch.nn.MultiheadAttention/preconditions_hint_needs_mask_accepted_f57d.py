# torch.nn.MultiheadAttention 2.13.0+cpu, preconditions. A hint without a mask is an error; the fast path ignores the
# hint and hides nothing.
import torch
query = torch.full((1, 5, 4), 1.0, dtype=torch.float32)
try:
    layer = torch.nn.MultiheadAttention(embed_dim=4, num_heads=2, dropout=0.25, kdim=4, vdim=4, batch_first=True).to(torch.float32).eval()
    layer.load_state_dict({'in_proj_weight': torch.full((12, 4), 1.0, dtype=torch.float32), 'in_proj_bias': torch.full((12,), 1.0, dtype=torch.float32), 'out_proj.weight': torch.full((4, 4), 1.0, dtype=torch.float32), 'out_proj.bias': torch.full((4,), 1.0, dtype=torch.float32)})
    with torch.no_grad():
        output = layer(query, query, query, need_weights=False, average_attn_weights=False, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised RuntimeError: hint-needs-mask')
