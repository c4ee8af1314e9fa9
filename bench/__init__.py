"""Measurements. Nothing here is a test: a clock is no judge of right and wrong."""
