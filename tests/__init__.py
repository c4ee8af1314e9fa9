"""Pure units, recorded fixtures and real kernels."""
