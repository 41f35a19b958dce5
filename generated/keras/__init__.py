"""Generated implementations for keras: one file per API or variant."""
