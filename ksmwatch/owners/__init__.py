"""Whose a process is, and sums by owner."""
