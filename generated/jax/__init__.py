"""Generated implementations for jax: one file per API or variant."""
