"""What fused kernels share, whatever they are written in.

language.py  what differs between the languages of kernels
holes.py     what a spec puts in the place of a skeleton's hole functions: logits, their derivative, masks, ranges of blocks
operands.py  tensors that masks and logits read
filling.py   what of a skeleton a generated file has, with its holes filled
public.py    the documented function around the kernels
coverage.py  which specs have a kernel, and why others have none
refusals.py  the page that says so, and what a call may not ask for
"""
