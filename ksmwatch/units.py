"""Units that the kernel counts in. Clock ticks are with their readers, in kernel/procfs."""

from mmap import PAGESIZE as PAGE_SIZE

__all__ = ["PAGE_KB", "PAGE_SIZE"]

# The kernel writes kB, and means KiB.
PAGE_KB = PAGE_SIZE // 1024
