"""Which functions call the functions that ksmwatch hooks, by the code in a kernel's image.

A compiler may put a copy of a function into one of its callers, and kallsyms, BTF and an accepted
probe show nothing of it: what that caller does then raises no event.
"""
