"""Generated implementations for tf_keras: one file per API or variant."""
