# torch.nn.MultiheadAttention 2.13.0+cpu, preconditions. Documented as 2-D or 3-D; the fast path views a mask of any
# rank as (T, T).
import torch
query = torch.full((2, 6, 8), 1.0, dtype=torch.float32)
attn_mask = torch.full((1, 1, 6, 6), True, dtype=torch.bool)
try:
    layer = torch.nn.MultiheadAttention(embed_dim=8, num_heads=2, dropout=0.25, vdim=8, batch_first=True).to(torch.float32).eval()
    layer.load_state_dict({'in_proj_weight': torch.full((24, 8), 1.0, dtype=torch.float32), 'in_proj_bias': torch.full((24,), 1.0, dtype=torch.float32), 'out_proj.weight': torch.full((8, 8), 1.0, dtype=torch.float32), 'out_proj.bias': torch.full((8,), 1.0, dtype=torch.float32)})
    with torch.no_grad():
        output = layer(query, query, query, need_weights=False, attn_mask=attn_mask, average_attn_weights=False, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError or AssertionError: rank of attn_mask')
