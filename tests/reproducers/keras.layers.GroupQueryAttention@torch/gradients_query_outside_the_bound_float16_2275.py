# keras.layers.GroupQueryAttention@torch 3.15.1, gradients. As above: the softmax without a mask, where a query attends
# to nothing.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
attention_mask = torch.tensor([[[False, True, True], [False, False, True], [False, True, False]], [[True, True, True], [True, False, True], [False, False, False]]], dtype=torch.bool)
query = torch.tensor([[[-1.455], [0.03714], [0.28]], [[-0.3755], [0.1726], [-1.028]]], dtype=torch.float16, requires_grad=True)
value = torch.tensor([[[0.919], [-1.041], [-1.708]], [[0.569], [-1.558], [-1.071]]], dtype=torch.float16, requires_grad=True)
d_output = torch.tensor([[[1.842], [-0.07855], [-0.628]], [[-1.286], [1.059], [1.025]]], dtype=torch.float16)
layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=2, num_key_value_heads=1, dtype='float16')
layer(query, value, attention_mask=attention_mask)
weights = {'query_kernel': torch.tensor([[[-0.5767], [0.6587]]], dtype=torch.float16, requires_grad=True), 'query_bias': torch.tensor([[0.2104], [-0.02771]], dtype=torch.float16, requires_grad=True), 'key_kernel': torch.tensor([[[0.11365]]], dtype=torch.float16, requires_grad=True), 'key_bias': torch.tensor([[-0.0888]], dtype=torch.float16, requires_grad=True), 'value_kernel': torch.tensor([[[3.164]]], dtype=torch.float16, requires_grad=True), 'value_bias': torch.tensor([[0.01982]], dtype=torch.float16, requires_grad=True), 'attention_output_kernel': torch.tensor([[[-0.3]], [[0.623]]], dtype=torch.float16, requires_grad=True), 'attention_output_bias': torch.tensor([0.2405], dtype=torch.float16, requires_grad=True)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
torch.autograd.backward(layer(query, value, attention_mask=attention_mask), d_output)
gradient = query.grad
print("got ", float(gradient[1, 2, 0]))
print("want", 0, "+- 4e-07")
