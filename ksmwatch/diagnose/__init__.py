"""Why little merges, and who shares with whom: judgement."""
