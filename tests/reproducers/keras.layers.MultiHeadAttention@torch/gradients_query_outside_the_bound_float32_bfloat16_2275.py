# keras.layers.MultiHeadAttention@torch 3.15.1, gradients. The mask is added as -0.7 * max and not put in place of a
# logit: a query that attends to nothing still moves query and key, and the flash kernel's backward pass takes each of
# its weights for 1, so that the gradient of value is S times too large.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
attention_mask = torch.tensor([[[False, False]]], dtype=torch.bool)
query = torch.tensor([[[-1.4555497]]], dtype=torch.float32, requires_grad=True)
value = torch.tensor([[[1.0185711, 1.1400144, 0.81222224, 1.0863044, 0.4857676, 0.9189284], [-1.0411761, -1.4576743, -1.6810324, -1.557255, -0.82158303, -1.8268516]]], dtype=torch.float32, requires_grad=True)
d_output = torch.tensor([[[0.9508996]]], dtype=torch.float32)
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, dtype='float32')
layer(query, value, attention_mask=attention_mask)
weights = {'query_kernel': torch.tensor([[[0.65893054]]], dtype=torch.float32, requires_grad=True), 'query_bias': torch.tensor([[0.21039116]], dtype=torch.float32, requires_grad=True), 'key_kernel': torch.tensor([[[-0.022629078]], [[0.04639103]], [[-0.072512545]], [[0.4417412]], [[0.01618557]], [[-0.3266171]]], dtype=torch.float32, requires_grad=True), 'key_bias': torch.tensor([[0.061548114]], dtype=torch.float32, requires_grad=True), 'value_kernel': torch.tensor([[[0.32700023]], [[0.47366658]], [[0.15357025]], [[0.06204502]], [[-0.04770255]], [[0.34316835]]], dtype=torch.float32, requires_grad=True), 'value_bias': torch.tensor([[0.25626695]], dtype=torch.float32, requires_grad=True), 'attention_output_kernel': torch.tensor([[[1.5830398]]], dtype=torch.float32, requires_grad=True), 'attention_output_bias': torch.tensor([0.34520924], dtype=torch.float32, requires_grad=True)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
torch.autograd.backward(layer(query, value, attention_mask=attention_mask), d_output)
gradient = torch.zeros_like(query) if query.grad is None else query.grad
print("got ", float(gradient[0, 0, 0]))
print("want", 0, "+- 3.9e-38")
