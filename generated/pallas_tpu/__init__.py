"""Generated kernels for pallas_tpu: one file per API or variant."""
