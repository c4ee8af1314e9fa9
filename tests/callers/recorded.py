"""Reads the recorded callers of hooked functions (`expected`)."""

from __future__ import annotations

from pathlib import Path


def callers_of(path: Path) -> dict[str, list[str]]:
    """Hooked function to its callers."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("!")]
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
