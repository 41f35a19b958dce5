# keras.layers.GroupQueryAttention@torch 3.15.1, oracle. The added mask is -0.7 * max(float16), which is finite and
# rounds away no logit: a query that attends to nothing gets the softmax of its logits as if there were no mask.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
attention_mask = torch.tensor([[False, False]], dtype=torch.bool)
query = torch.tensor([[[-1.455, 0.03714, 0.28, -0.3755], [0.1726, -1.028, -0.1621, 0.4177], [-0.4153, -0.8623, -0.6147, 0.857]]], dtype=torch.float16)
value = torch.tensor([[[0.423, 1.659, 1.421, 0.9443], [-1.137, -1.428, -0.168, -1.21]]], dtype=torch.float16)
layer = keras.layers.GroupQueryAttention(head_dim=1, num_query_heads=1, num_key_value_heads=1, dtype='float16')
layer(query, value, attention_mask=attention_mask)
weights = {'query_kernel': torch.tensor([[[-0.4]], [[0.06155]], [[0.2405]], [[0.4604]]], dtype=torch.float16), 'query_bias': torch.tensor([[-0.01964]], dtype=torch.float16), 'key_kernel': torch.tensor([[[-0.157]], [[-0.3215]], [[0.2646]], [[0.2563]]], dtype=torch.float16), 'key_bias': torch.tensor([[0.1458]], dtype=torch.float16), 'value_kernel': torch.tensor([[[0.595]], [[0.4878]], [[-0.11725]], [[0.1448]]], dtype=torch.float16), 'value_bias': torch.tensor([[-0.1948]], dtype=torch.float16), 'attention_output_kernel': torch.tensor([[[2.402, -0.10266, 1.755, 0.6987]]], dtype=torch.float16), 'attention_output_bias': torch.tensor([0.0841, 0.2175, 0.0873, 0.05002], dtype=torch.float16)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with torch.no_grad():
    output = layer(query, value, attention_mask=attention_mask)
print("got ", float(output[0, 0, 3]))
print("want", -0.259823307, "+- 0.0026")
