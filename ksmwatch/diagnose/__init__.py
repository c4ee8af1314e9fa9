"""Judgement: why little merges, and who shares with whom."""
