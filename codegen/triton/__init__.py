"""Fused kernels in Triton, from the same spec.

skeleton.py  the kernels as a real module, for plain causal attention; read as text and never imported
holes.py     what a spec puts in the place of the skeleton's hole functions: logits, their derivative, masks, ranges of blocks
operands.py  tensors that masks and logits read
module.py    one generated file
coverage.py  which specs have a kernel, and why others have none
refusals.py  the page that says so, and what a call may not ask for
"""
