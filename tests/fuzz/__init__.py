"""A long random program, and the count held against the page tables on the way."""
