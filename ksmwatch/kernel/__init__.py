"""Facts about the kernel: symbols, structures, files, page tables. No decisions."""
