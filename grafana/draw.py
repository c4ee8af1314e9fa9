"""`make pictures`: draws every dashboard, from live data, with Grafana's own UI components.

No Grafana server is packaged for Debian; its components are on npm. What they draw here are the
answers of a real Prometheus that has scraped the three guests of `make test-fleet`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.panels import BOARDS
from tests.prometheus import prometheus, query

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs/pictures"
JAVASCRIPT = ROOT / "grafana/pictures"
DATA = Path.home() / ".cache/ksmwatch/pictures"
HOST = "kvm-01"
_RECORD_SECONDS = 600
_SHOW_SECONDS = 600
# Few colours are used; a palette makes a picture a third as large.
_COLORS = 96


@dataclass(frozen=True)
class Job:
    """One picture, as draw.js wants it."""

    name: str
    dashboard: str
    begin: float
    end: float
    variables: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """With draw.js's names."""
        return {
            "name": self.name,
            "dashboard": self.dashboard,
            "from": self.begin,
            "to": self.end,
            "variables": self.variables,
        }


def newest(port: int) -> float:
    """When the last sample was scraped."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/status/tsdb") as answer:
        status = json.load(answer)["data"]["headStats"]
    return float(status["maxTime"]) / 1000


def largest(port: int, metric: str, label: str, end: float) -> str:
    """The label of the series of a host that was largest."""
    text = f'topk(1, max by ({label}) (max_over_time({metric}{{instance="{HOST}"}}[20m] @ {end})))'
    (row,) = query(port, text)
    return str(row["metric"][label])


def jobs(port: int) -> list[Job]:
    """A picture of each dashboard."""
    end = newest(port)
    chosen = {
        "job": "ksmwatch",
        "instance": HOST,
        "owner": largest(port, "ksmwatch_owner_mappings", "id", end),
        "pid": largest(port, "ksmwatch_process_mappings", "pid", end),
        "top": "10",
    }
    found = []
    for name, board in BOARDS.items():
        uid = name.removesuffix(".json")
        wanted = {each["name"] for each in board["templating"]["list"]}
        variables = {key: value for key, value in chosen.items() if key in wanted}
        found.append(Job(uid.removeprefix("ksmwatch-"), uid, end - _SHOW_SECONDS, end, variables))
    return found


def record(directory: Path) -> None:
    """Let a fleet live for a while, and keep what Prometheus has scraped of it."""
    command = [sys.executable, "-m", "tests.fleet.run"]
    options = ["--seconds", str(_RECORD_SECONDS), "--keep", str(directory)]
    subprocess.run([*command, *options], cwd=ROOT, check=True)


def draw(port: int, wanted: Sequence[Job], directory: Path) -> None:
    """Have Node draw them; fails if a panel has no data."""
    # npm writes this last.
    installed = JAVASCRIPT / "node_modules/.package-lock.json"
    lock = JAVASCRIPT / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=JAVASCRIPT, check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([job.to_json() for job in wanted], file)
        file.flush()
        url = f"http://127.0.0.1:{port}"
        subprocess.run(["node", "draw.js", url, directory, file.name], cwd=JAVASCRIPT, check=True)


def shrink(directory: Path) -> None:
    """Fewer colours, fewer bytes."""
    for path in directory.glob("*.png"):
        with Image.open(path) as image:
            image.convert("RGB").quantize(_COLORS).save(path, optimize=True)


def main(argv: list[str]) -> int:
    """Draw all, after recording if there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="python -m grafana.draw")
    parser.add_argument("--data", type=Path, default=DATA, help="what Prometheus has kept")
    parser.add_argument("--record", action="store_true", help="record anew")
    arguments = parser.parse_args(argv)
    if arguments.record or not arguments.data.exists():
        record(arguments.data)
    with prometheus("{}", arguments.data) as port:
        while not query(port, "1"):
            pass
        draw(port, jobs(port), PICTURES)
    shrink(PICTURES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
