"""Units that the kernel counts in."""

from mmap import PAGESIZE as PAGE_SIZE

__all__ = ["PAGE_SIZE"]
