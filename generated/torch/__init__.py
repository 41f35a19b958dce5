"""Generated implementations for torch: one file per API or variant."""
