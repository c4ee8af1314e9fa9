"""The owner of each process, and sums by owner."""
