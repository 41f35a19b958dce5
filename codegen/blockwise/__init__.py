"""The blockwise form of a spec: loops over blocks that visit only the keys that the masks let a block see."""
