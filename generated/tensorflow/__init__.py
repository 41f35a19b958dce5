"""Generated implementations for tensorflow: one file per API or variant."""
