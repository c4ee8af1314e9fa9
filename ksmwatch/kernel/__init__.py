"""What the kernel is and says: symbols, structures, files, page tables. Facts, no decision."""
