# keras.layers.MultiHeadAttention@torch 3.15.1, oracle. The added mask is -0.7 * max(float16), which is finite and
# rounds away no logit: a query that attends to nothing gets the softmax of its logits as if there were no mask.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[-1.455], [0.03714], [0.28]]], dtype=torch.float16)
value = torch.tensor([[[0.812, 1.086, 0.4858, 0.919, 1.209, 0.7925], [-1.681, -1.558, -0.822, -1.827, -0.5913, -0.829]]], dtype=torch.float16)
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, sliding_window=1, dtype='float16')
layer(query, value)
weights = {'query_kernel': torch.tensor([[[-0.05542]]], dtype=torch.float16), 'query_bias': torch.tensor([[0.05682]], dtype=torch.float16), 'key_kernel': torch.tensor([[[-0.0725]], [[0.4417]], [[0.01619]], [[-0.3267]], [[0.05026]], [[0.1964]]], dtype=torch.float16), 'key_bias': torch.tensor([[0.4604]], dtype=torch.float16), 'value_kernel': torch.tensor([[[0.1536]], [[0.06204]], [[-0.0477]], [[0.3433]], [[0.3374]], [[0.264]]], dtype=torch.float16), 'value_bias': torch.tensor([[0.3452]], dtype=torch.float16), 'attention_output_kernel': torch.tensor([[[1.951]]], dtype=torch.float16), 'attention_output_bias': torch.tensor([-0.3672], dtype=torch.float16)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with torch.no_grad():
    output = layer(query, value)
print("got ", float(output[0, 2, 0]))
print("want", 0.0530796778, "+- 0.0054")
