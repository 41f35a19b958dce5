"""Generated kernels for pallas: one file per API or variant."""
