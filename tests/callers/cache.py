"""The kernels that tests/vm/run has fetched."""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ksmwatch/kernels"


def kernels() -> list[str]:
    """Names of the complete entries."""
    return sorted(path.parent.name for path in ROOT.glob("*/complete.json"))


def release_of(name: str) -> str:
    """What uname says on it."""
    return str(json.loads((ROOT / name / "complete.json").read_text())["release"])


def image_of(name: str) -> Path:
    """The image that QEMU is given."""
    places = [ROOT / name / each for each in ("vmlinux", "vmlinuz")]
    return next(path for path in places if path.exists())
