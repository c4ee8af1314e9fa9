"""Fronts: processes without privilege that hand out what the daemon knows."""
