"""Generated Triton kernels: one file per API or variant."""
