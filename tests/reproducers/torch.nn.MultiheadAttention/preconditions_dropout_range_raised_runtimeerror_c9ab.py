# torch.nn.MultiheadAttention 2.13.0+cpu, preconditions. With weights the same rate raises ValueError.
import torch
query = torch.full((1, 6), 1.0, dtype=torch.float32)
key_padding_mask = torch.tensor([1.0], dtype=torch.float32)
attn_mask = torch.tensor([[[1.0]], [[1.0]]], dtype=torch.float32)
try:
    layer = torch.nn.MultiheadAttention(embed_dim=6, num_heads=2, dropout=1.5, bias=False, kdim=6, vdim=6, batch_first=True).to(torch.float32).train()
    layer.load_state_dict({'in_proj_weight': torch.full((18, 6), 1.0, dtype=torch.float32), 'out_proj.weight': torch.full((6, 6), 1.0, dtype=torch.float32)})
    with torch.no_grad():
        output = layer(query, query, query, key_padding_mask=key_padding_mask, need_weights=False, attn_mask=attn_mask)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'raised ValueError: dropout-range')
