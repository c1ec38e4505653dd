"""The permutohedral mean-field engine: compiled kernels, their lattices, and the updates that they make."""
