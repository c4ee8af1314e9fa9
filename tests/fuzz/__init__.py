"""A long random program, with its counts compared with the page tables on the way."""
