"""ksmwatch: live, exact per-process counts of PTEs that map a KSM page."""

__version__ = "0.1.0"
