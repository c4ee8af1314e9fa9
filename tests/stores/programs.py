"""A Prometheus that writes to stores, and the stores: real programs that can be killed."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import prometheus
from tests.children import Ending
from tests.debs import program
from tests.guests import ROOT
from tests.kernel.daemon import free_port
from tests.waiting import wait_until

DEPLOYED = ROOT / "deploy/prometheus"
RULES = [str(DEPLOYED / name) for name in ("ksmwatch.rules.yml", "fleet.rules.yml")]


class Server(Ending):
    """A program that answers at a port of its own. Killed, it may be started again."""

    def __init__(self, command: Sequence[str], port: int, ready: str) -> None:
        """Starts it. `ready`: the path that answers when it works."""
        self._command = command
        self.port = port
        self._ready = f"http://127.0.0.1:{port}{ready}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Returns when it works."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        wait_until(self._works, f"{self._command[0]} does not start")

    def _works(self) -> bool:
        try:
            with urllib.request.urlopen(self._ready):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """As the kernel kills when memory is short: it gets no time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """In good order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def end(self) -> None:
        self.kill()


def victoria_metrics(directory: Path) -> Server:
    """VictoriaMetrics, as Debian has it."""
    port = free_port()
    command = [
        str(program("victoria-metrics", "victoria-metrics")),
        f"-storageDataPath={directory}/victoria-metrics",
        f"-httpListenAddr=127.0.0.1:{port}",
        # Otherwise it answers for half a minute ago.
        "-search.latencyOffset=0s",
        # A sample that was sent twice counts once.
        "-dedup.minScrapeInterval=1ms",
        "-loggerLevel=ERROR",
    ]
    return Server(command, port, "/health")


def receiving_prometheus(directory: Path) -> Server:
    """A Prometheus that scrapes nothing, and takes what others write to it."""
    port = free_port()
    where = directory / "receiving"
    where.mkdir()
    # So much older than the newest may a sample be that fills a gap.
    config = "storage: {tsdb: {out_of_order_time_window: 1d}}"
    options = ("--web.enable-remote-write-receiver", "--web.enable-admin-api")
    return Server(prometheus.command(config, where, port, *options), port, "/-/ready")


def sending_prometheus(directory: Path, config: str) -> Server:
    """A Prometheus that scrapes hosts and writes to stores."""
    port = free_port()
    where = directory / "sending"
    where.mkdir()
    return Server(prometheus.command(config, where, port), port, "/-/ready")


# Where each store takes remote write, as the example says.
PATHS = {"victoria-metrics": "/api/v1/write", "prometheus": "/api/v1/write"}


def sending(targets: list[dict[str, Any]], seconds: int, stores: Mapping[str, int]) -> str:
    """The shipped example of remote write; only addresses and intervals are changed."""
    document: dict[str, Any] = yaml.safe_load((DEPLOYED / "remote-write.yml").read_text())
    times = dict.fromkeys(("scrape_interval", "evaluation_interval"), f"{seconds}s")
    document["global"] |= times
    document["rule_files"] = RULES
    (job,) = document["scrape_configs"]
    job["scrape_timeout"] = f"{seconds}s"
    job["static_configs"] = targets
    (remote,) = document["remote_write"]
    document["remote_write"] = [
        {
            **remote,
            "name": name,
            "url": f"http://127.0.0.1:{port}{PATHS[name]}",
            "queue_config": {"batch_send_deadline": f"{seconds}s"},
        }
        for name, port in stores.items()
    ]
    return yaml.safe_dump(document)


def federating(port: int, seconds: int) -> str:
    """The shipped example of federation, with the address of the Prometheus below."""
    document: dict[str, Any] = yaml.safe_load((DEPLOYED / "federation.yml").read_text())
    document["global"]["scrape_interval"] = f"{seconds}s"
    (job,) = document["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    return yaml.safe_dump(document)


def written() -> str:
    """A selector of all that the example sends."""
    (remote,) = yaml.safe_load((DEPLOYED / "remote-write.yml").read_text())["remote_write"]
    (keep,) = remote["write_relabel_configs"]
    return f'{{__name__=~"{keep["regex"]}"}}'
