"""Generated kernels for triton: one file per API or variant."""
