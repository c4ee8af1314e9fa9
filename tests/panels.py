"""The panels of the generated dashboards, and their queries as Grafana would send them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[1] / "grafana/dashboards"

BOARDS: dict[str, dict[str, Any]] = {
    path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.iterdir())
}
PANELS: dict[str, dict[str, Any]] = {
    f"{name}: {panel['title']}": panel
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
}


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """An expression as Prometheus receives it: with the values of variables, by `$name`."""
    # The longest first, as one name may begin like another.
    for variable in sorted(values, key=len, reverse=True):
        text = text.replace(variable, values[variable])
    # label_replace() reads that, and Grafana has no variable of this name.
    assert "$" not in text.replace('"$1"', ""), text
    return text


def queries(values: Mapping[str, str]) -> dict[str, str]:
    """Every query of every panel, by where it is."""
    return {
        f"{where} ({target['refId']})": filled_in(target["expr"], values)
        for where, panel in PANELS.items()
        for target in panel["targets"]
    }


def fleet_queries(window: int) -> list[str]:
    """The queries of the fleet dashboard, with rates over this many seconds; each once."""
    values = {"$job": "ksmwatch", "$top": "10", "$__rate_interval": f"{window}s"}
    targets = [
        target
        for panel in BOARDS["ksmwatch-fleet.json"]["panels"]
        for target in panel.get("targets", ())
    ]
    return list(dict.fromkeys(filled_in(target["expr"], values) for target in targets))
