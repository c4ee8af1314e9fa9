"""Fronts: unprivileged processes that hand out what the daemon knows."""
