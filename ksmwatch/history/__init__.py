"""The counts of the past, in a file on the host itself."""
