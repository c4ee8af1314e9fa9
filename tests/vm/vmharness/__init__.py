"""Boot stock Debian kernels in QEMU over the machine's own file system."""
