"""The real Prometheus, from Debian's package: unpacked, not installed, started by a test."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kernel.daemon import free_port


def unpacked(package: str) -> Path:
    """Where a package was unpacked for the guest (tests/kernel/run.py)."""
    return Path(os.environ[f"DEB_{package.upper().replace('-', '_')}"])


def program(package: str, name: str) -> Path:
    """A program of a package."""
    return unpacked(package) / "usr/bin" / name


@contextmanager
def prometheus(config: str, directory: Path) -> Iterator[int]:
    """A Prometheus with a configuration; yields its port."""
    path = directory / "prometheus.yml"
    path.write_text(config)
    port = free_port()
    server = subprocess.Popen(
        [
            program("prometheus", "prometheus"),
            f"--config.file={path}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )
    try:
        yield port
    finally:
        server.kill()
        server.wait()


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """An instant query; empty while the server does not answer yet."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return []
    return result
