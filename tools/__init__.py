"""What makes generated files; no part of the package that is installed."""
