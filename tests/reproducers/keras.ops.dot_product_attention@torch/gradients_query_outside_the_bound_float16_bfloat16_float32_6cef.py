# keras.ops.dot_product_attention@torch 3.15.1, gradients. The mask is added: in a row that sees nothing the logits
# still have a gradient, and in float16 its hidden keys are told apart.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
mask = torch.tensor([[[[False, False]]]], dtype=torch.bool)
query = torch.tensor([[[[-1.453125]]]], dtype=torch.bfloat16, requires_grad=True)
key = torch.tensor([[[[0.037109375]], [[0.27929688]]]], dtype=torch.bfloat16, requires_grad=True)
value = torch.tensor([[[[0.8125]], [[-1.1640625]]]], dtype=torch.bfloat16, requires_grad=True)
d_output = torch.tensor([[[[-1.03125]]]], dtype=torch.bfloat16)
torch.autograd.backward(keras.ops.dot_product_attention(query, key, value, mask=mask), d_output)
gradient = query.grad
print("got ", float(gradient[0, 0, 0, 0]))
print("want", 0, "+- 3.5e-38")
