"""What the script ksmwatch-textfile makes of an answer, and an invented answer."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[1] / "deploy/prometheus/ksmwatch-textfile"

SAVED = {
    f"{key}{suffix}": number
    for key, number in (("saved_now", 10), ("would_save", 20), ("would_save_all", 30.5))
    for suffix in ("", "_low", "_high")
}
ESTIMATE = {
    "schema": "ksmwatch.estimate/1",
    "confidence": "exact",
    "page_size": 4096,
    "host": SAVED,
    "owners": [{**SAVED, "kind": "vm", "id": 'a"b\\c', "name": "web"}],
    "zero_pages": 7,
    "across_tenants": 3,
}

_CONTENTS = runpy.run_path(str(SCRIPT))
METRICS: frozenset[str] = frozenset(_CONTENTS["METRICS"])


def text(command: str, document: dict[str, Any]) -> str:
    """The file that it writes for an answer of a command."""
    made: str = _CONTENTS["text"](command, document)
    return made


def installed(directory: Path, program: Path) -> Path:
    """The script in a directory, and beside it the ksmwatch that it then runs."""
    (directory / "ksmwatch").symlink_to(program)
    return Path(shutil.copy(SCRIPT, directory))
