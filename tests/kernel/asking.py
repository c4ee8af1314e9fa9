"""Runs commands of ksmwatch and returns what they print."""

from __future__ import annotations

import json
from typing import Any

from tests.children import output


def causes(pid: int | None = None) -> list[dict[str, Any]]:
    """What `ksmwatch why` finds, on the host or in a process."""
    words = [] if pid is None else [str(pid)]
    return list(json.loads(output(["ksmwatch", "why", "--json", *words]))["causes"])


def why(pid: int | None = None) -> list[str]:
    """The codes, except that smart_scan skips pages, which is so on every kernel that has it."""
    return [cause["code"] for cause in causes(pid) if cause["code"] != "skipping"]
