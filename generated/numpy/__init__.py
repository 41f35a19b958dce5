"""Generated implementations for numpy: one file per API or variant."""
