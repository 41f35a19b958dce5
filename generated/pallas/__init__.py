"""Generated Pallas kernels: one file per API or variant."""
