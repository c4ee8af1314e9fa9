"""Writes grafana/dashboards/*.json: `python -m grafana.build`, or `make dashboards`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import fleet, health, host, owners, parts, processes

DASHBOARDS = Path(__file__).resolve().parent / "dashboards"
BOARDS = (host.BOARD, owners.BOARD, processes.BOARD, health.BOARD, fleet.BOARD)


def generate() -> dict[str, str]:
    """Text by file name."""
    return {
        f"{board.uid}.json": json.dumps(
            parts.make(board), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for board in BOARDS
    }


def main() -> None:
    """Write every dashboard."""
    DASHBOARDS.mkdir(exist_ok=True)
    for name, text in generate().items():
        (DASHBOARDS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
