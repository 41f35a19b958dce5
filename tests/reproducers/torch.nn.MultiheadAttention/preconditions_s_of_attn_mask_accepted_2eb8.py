# torch.nn.MultiheadAttention 2.13.0+cpu, preconditions. Where the hint replaces attn_mask, the shape of attn_mask is
# not looked at.
import torch
query = torch.full((3, 8), 1.0, dtype=torch.float32)
key = torch.full((3, 11), 1.0, dtype=torch.float32)
attn_mask = torch.full((3, 4), 1.0, dtype=torch.float32)
try:
    layer = torch.nn.MultiheadAttention(embed_dim=8, num_heads=2, dropout=0.25, bias=False, add_bias_kv=True, add_zero_attn=True, kdim=11, vdim=8).to(torch.float32).eval()
    layer.load_state_dict({'q_proj_weight': torch.full((8, 8), 1.0, dtype=torch.float32), 'k_proj_weight': torch.full((8, 11), 1.0, dtype=torch.float32), 'v_proj_weight': torch.full((8, 8), 1.0, dtype=torch.float32), 'bias_k': torch.full((1, 1, 8), 1.0, dtype=torch.float32), 'bias_v': torch.full((1, 1, 8), 1.0, dtype=torch.float32), 'out_proj.weight': torch.full((8, 8), 1.0, dtype=torch.float32)})
    with torch.no_grad():
        output = layer(query, key, query, need_weights=False, attn_mask=attn_mask, average_attn_weights=False, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError or AssertionError: S of attn_mask')
