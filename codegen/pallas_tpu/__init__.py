"""Fused kernels for TPUs: `codegen/pallas` with a schedule of its own.

language.py  what a kernel is written in
skeleton.py  the kernels and what launches them, with holes
module.py    the generated file
"""
