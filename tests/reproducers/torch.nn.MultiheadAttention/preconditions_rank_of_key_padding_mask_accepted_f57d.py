# torch.nn.MultiheadAttention 2.13.0+cpu, preconditions. Documented as 2-D; the fast path views a mask of any rank as
# (B, T).
import torch
query = torch.full((1, 38, 16), 1.0, dtype=torch.float32)
key_padding_mask = torch.full((1, 1, 38), True, dtype=torch.bool)
attn_mask = torch.full((38, 38), True, dtype=torch.bool)
try:
    layer = torch.nn.MultiheadAttention(embed_dim=16, num_heads=2, dropout=0.25, kdim=16, batch_first=True).to(torch.float32).eval()
    layer.load_state_dict({'in_proj_weight': torch.full((48, 16), 1.0, dtype=torch.float32), 'in_proj_bias': torch.full((48,), 1.0, dtype=torch.float32), 'out_proj.weight': torch.full((16, 16), 1.0, dtype=torch.float32), 'out_proj.bias': torch.full((16,), 1.0, dtype=torch.float32)})
    with torch.no_grad():
        output = layer(query, query, query, key_padding_mask=key_padding_mask, attn_mask=attn_mask, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError or TypeError or RuntimeError or NotImplementedError or AssertionError: rank of key_padding_mask')
