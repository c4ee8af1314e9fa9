"""Directed interleavings on a real kernel: see README.md."""
