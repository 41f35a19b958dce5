# keras.layers.MultiHeadAttention@torch 3.15.1, oracle. As above: query_mask is not read, and its rows attend.
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query_mask = torch.tensor([[False]], dtype=torch.bool)
query = torch.tensor([[[-1.455549716949463]]], dtype=torch.float64)
value = torch.tensor([[[1.018571138381958, 1.140014410018921, 0.8122222423553467, 1.0863044261932373, 0.4857676029205322, 0.9189283847808838]]], dtype=torch.float64)
layer = keras.layers.MultiHeadAttention(num_heads=1, key_dim=1, dtype='float64')
layer(query, value, query_mask=query_mask)
weights = {'query_kernel': torch.tensor([[[0.20882391929626465]]], dtype=torch.float64), 'query_bias': torch.tensor([[-0.10383713245391846]], dtype=torch.float64), 'key_kernel': torch.tensor([[[-0.17596824827482682]], [[-0.12543634060260775]], [[0.17490049454348341]], [[-0.2354986821514851]], [[0.2690072665240655]], [[0.17178366592132494]]], dtype=torch.float64), 'key_bias': torch.tensor([[-0.027714848518371582]], dtype=torch.float64), 'value_kernel': torch.tensor([[[0.2045447826385498]], [[0.10746041933695474]], [[0.5273468494415283]], [[0.17988212903340656]], [[-0.10001508394877115]], [[0.20769874254862467]]], dtype=torch.float64), 'value_bias': torch.tensor([[0.2405003309249878]], dtype=torch.float64), 'attention_output_kernel': torch.tensor([[[2.8419995307922363]]], dtype=torch.float64), 'attention_output_bias': torch.tensor([-0.019644618034362793], dtype=torch.float64)}
[each.assign(weights['_'.join(each.path.split('/')[-2:])]) for each in layer.weights]
with torch.no_grad():
    output = layer(query, value, query_mask=query_mask)
print("got ", float(output[0, 0, 0]))
print("want", 3.78112035, "+- 2.1e-14")
