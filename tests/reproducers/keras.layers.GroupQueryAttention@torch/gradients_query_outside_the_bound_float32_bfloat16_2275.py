# keras.layers.GroupQueryAttention@torch 3.15.1, gradients. The mask is added as -0.7 * max and not put in place of a
# logit: a query that attends to nothing still moves query and key, and the flash kernel's backward pass takes each of
# its weights for 1, so that the gradient of value is S times too large.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[-1.4555497], [0.037142277], [0.28002882]]], dtype=torch.float32, requires_grad=True)
value = torch.tensor([[[0.81222224], [-1.1636956]]], dtype=torch.float32, requires_grad=True)
d_output = torch.tensor([[[1.3178611], [0.84156466], [-0.110859394]]], dtype=torch.float32)
layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=1, num_key_value_heads=1, sliding_window=1, dtype='float32')
layer(query, value)
weights = {'query_kernel': torch.tensor([[[-0.5142324]]], dtype=torch.float32, requires_grad=True), 'query_bias': torch.tensor([[-0.040535808]], dtype=torch.float32, requires_grad=True), 'key_kernel': torch.tensor([[[0.20882392]]], dtype=torch.float32, requires_grad=True), 'key_bias': torch.tensor([[-0.10383713]], dtype=torch.float32, requires_grad=True), 'value_kernel': torch.tensor([[[0.13793516]]], dtype=torch.float32, requires_grad=True), 'value_bias': torch.tensor([[-0.15362751]], dtype=torch.float32, requires_grad=True), 'attention_output_kernel': torch.tensor([[[1.8568339]]], dtype=torch.float32, requires_grad=True), 'attention_output_bias': torch.tensor([-0.2884258], dtype=torch.float32, requires_grad=True)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
torch.autograd.backward(layer(query, value), d_output)
gradient = query.grad
print("got ", float(gradient[0, 2, 0]))
print("want", 0, "+- 3.6e-38")
