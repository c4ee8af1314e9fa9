"""What every benchmark shares: its result as JSON, and pieces of the page made from it.

A benchmark is a module with

    NAME                     of bench/results/NAME.json, and of its target `make bench-NAME`
    section(result) -> str   Markdown, from that JSON alone
    goals(result) -> list    each Goal that it measures
    figures(result) -> dict  plots by file name below docs/ (may be left out)

and a main() that measures and calls `save`. ``bench/report.py`` knows the modules.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench/results"

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """One goal of the project, and what was reached. `why` says what stands in the way."""

    goal: str
    reached: str
    met: bool
    why: str = ""


def save(name: str, result: Result) -> None:
    """Keep what was measured, with the date."""
    document = {"date": time.strftime("%Y-%m-%d", time.gmtime()), **result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(name: str) -> Result | None:
    """What was measured last; None if it never was."""
    try:
        text = (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    result: Result = json.loads(text)
    return result


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right, as their columns begin with one."""
    found = [[str(cell) for cell in row] for row in rows]
    ruler = ["---:" if _is_number(cell) else "---" for cell in (found or [[*head]])[0]]
    lines = (" | ".join(row) for row in [[*head], ruler, *found])
    return "\n".join(f"| {line} |" for line in lines)


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-")[:1].isdigit()
