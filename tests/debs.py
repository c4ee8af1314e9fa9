"""Programs of Debian packages that are unpacked, not installed: on the host and in a guest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _variable(package: str) -> str:
    return f"DEB_{package.upper().replace('-', '_')}"


def unpacked(package: str) -> Path:
    """The directory of a package. A guest is told; the host asks the cache, which may fetch."""
    name = _variable(package)
    if name not in os.environ:
        done = subprocess.run(
            [ROOT / "tests/vm/debs", package], check=True, stdout=subprocess.PIPE, text=True
        )
        os.environ[name] = done.stdout.strip()
    return Path(os.environ[name])


def environment(packages: Iterable[str]) -> dict[str, str]:
    """What a guest must be told to find these packages."""
    return {_variable(package): str(unpacked(package)) for package in packages}


def program(package: str, name: str) -> Path:
    return unpacked(package) / "usr/bin" / name
