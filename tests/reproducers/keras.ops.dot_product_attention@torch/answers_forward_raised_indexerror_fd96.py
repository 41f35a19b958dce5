# keras.ops.dot_product_attention@torch 3.15.1, answers. A bias of one axis broadcasts, as documented, but meets the
# flash kernel's unchecked size(-2).
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch
query = torch.tensor([[[[-1.455549716949463, 0.037142276763916016, 0.2800288200378418], [-0.37555551528930664, 0.1726088523864746, -1.0284647941589355]]], [[[-0.16214323043823242, 0.4176478385925293, -0.41534852981567383], [-0.8620648384094238, -0.6145100593566895, 0.8568339347839355]]]], dtype=torch.float64)
key = torch.tensor([[[[-1.153703212738037, 1.3178610801696777, 0.8415646553039551], [-0.11085939407348633, 0.22726869583129883, -0.3552374839782715]]], [[[2.16408109664917, 0.07929277420043945, -1.600090503692627], [0.24619245529174805, 0.9620013236999512, 1.8419995307922363]]]], dtype=torch.float64)
value = torch.tensor([[[[0.9607107639312744, 0.6861350536346436, 0.35689234733581543], [1.5295050144195557, 1.5125339031219482, 1.2915198802947998]]], [[[1.6904184818267822, 1.475449800491333, 0.26554322242736816], [0.7896406650543213, 0.6104047298431396, 1.701322317123413]]]], dtype=torch.float64)
bias = torch.tensor([-1.1026577949523926], dtype=torch.float64)
try:
    output = keras.ops.dot_product_attention(query, key, value, bias=bias, scale=1.75, is_causal=True)
    got = "an answer"
except Exception as error:
    got = "raised " + repr(error)[:200]
print("got ", got)
print("want", 'an answer')
