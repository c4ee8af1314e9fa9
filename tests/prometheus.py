"""The real Prometheus, from Debian's package: unpacked, not installed, started by a test."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.children import running
from tests.debs import program
from tests.kernel.daemon import free_port

# How many times longer a scrape may take than one on an idle machine.
_ROOM = 10


def command(config: str, directory: Path, port: int, *options: str) -> list[str]:
    """How to start a Prometheus with a configuration, whose files are in a directory."""
    path = directory / "prometheus.yml"
    path.write_text(config)
    return [
        str(program("prometheus", "prometheus")),
        f"--config.file={path}",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        *options,
    ]


@contextmanager
def prometheus(config: str, directory: Path) -> Iterator[int]:
    """A Prometheus with a configuration; yields its port."""
    port = free_port()
    with running(command(config, directory, port)):
        yield port


@contextmanager
def node_exporter(directory: Path) -> Iterator[int]:
    """The real one, which serves text files; yields its port."""
    port = free_port()
    command = [
        str(program("prometheus-node-exporter", "prometheus-node-exporter")),
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        *("--collector.disable-defaults", "--collector.textfile"),
        f"--collector.textfile.directory={directory}",
    ]
    with running(command):
        yield port


def interval(scrape: Callable[[], object]) -> int:
    """Seconds between scrapes with which this machine keeps up, whatever its load.

    Prometheus gives a scrape no more time than that.
    """
    # The first may find cold caches.
    scrape()
    began = time.monotonic()
    scrape()
    return max(1, math.ceil(_ROOM * (time.monotonic() - began)))


def complaints(port: int) -> list[str]:
    """Why targets cannot be scraped."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets") as answer:
        targets = json.load(answer)["data"]["activeTargets"]
    return [target["lastError"] for target in targets if target["lastError"]]


def query(port: int, expression: str, at: float | None = None) -> list[dict[str, Any]]:
    """A query for one moment, if not for now; empty if the server does not answer yet."""
    asked = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode(asked)
    try:
        with urllib.request.urlopen(url) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return []
    return result
