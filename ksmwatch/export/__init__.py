"""Metrics, and the unprivileged processes that hand them out."""
