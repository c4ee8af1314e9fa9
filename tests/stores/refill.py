"""The shipped script that sends a store what it has missed."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from tests.children import output
from tests.stores.programs import DEPLOYED, written
from tests.stores.station import Station


def refill(station: Station, store: str, begin: float, end: float) -> None:
    """Runs it, for a time at least as long as that."""
    output(
        [
            *(DEPLOYED / "refill", f"--source=http://127.0.0.1:{station.sender.port}"),
            f"--store=http://127.0.0.1:{station.stores[store].port}/api/v1/write",
            *(f"--begin={_text(math.floor(begin))}", f"--end={_text(math.ceil(end))}"),
            *("--label=cluster=example", written()),
        ]
    )


def _text(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
