"""Fused kernels in Pallas, from the same spec; what they share with others is in codegen/kernels/.

skeleton.py  the kernels as a real module, for plain causal attention; read as text and never imported
language.py  how Pallas writes an operation, and what its kernels are given
module.py    one generated file
"""
