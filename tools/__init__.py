"""Generators of generated files; not part of the installed package."""
