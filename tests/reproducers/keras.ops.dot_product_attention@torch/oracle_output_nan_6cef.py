# keras.ops.dot_product_attention@torch 3.15.1, oracle. The mask is added: a hidden key that is not finite reaches its
# rows.
import os
from math import nan
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
mask = torch.tensor([[False]], dtype=torch.bool)
query = torch.tensor([[[[-2.192141, -0.5310836, -0.9613328], [0.40481424, -0.37778807, -1.462048]]], [[[-0.811934, -0.24330282, 0.21745443], [-0.9969287, 1.9885383, 0.85730124]]]], dtype=torch.float32)
key = torch.full((2, 1, 2, 3), nan, dtype=torch.float32)
value = torch.tensor([[[[0.9767611, 0.96598697, 1.8501117], [1.1543171, 0.87042737, 1.7434151]]], [[[0.5175226, 1.3515728, 0.9647782], [1.2464659, 1.4489248, 1.067508]]]], dtype=torch.float32)
output = keras.ops.dot_product_attention(query, key, value, mask=mask)
print("got ", float(output[0, 0, 0, 0]))
print("want", 0.976761103, "+- 1.3e-06")
