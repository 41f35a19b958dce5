"""Which pairs of blocks of queries and keys a mask needs at all: from its predicate, formulas; at run time, their values."""
