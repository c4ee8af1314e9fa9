"""A monitoring station for daemons under test: Prometheus, Alertmanager and a receiver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.children import running
from tests.debs import program, unpacked
from tests.kernel.daemon import free_port
from tests.prometheus import prometheus, query
from tests.slowness import patience

# Rules wait for an hour that is two minutes here; the rest is the time of an emulated guest.
DEADLINE_SECONDS = 600

_PROMETHEUS = """\
global:
  scrape_interval: {interval}s
  scrape_timeout: {interval}s
  evaluation_interval: {interval}s
rule_files: [{rules}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}
scrape_configs:
  - job_name: ksmwatch
    file_sd_configs: [{{files: [{targets}/*.json], refresh_interval: 1s}}]
"""

_TEMPLATES = Path("/usr/share/prometheus/alertmanager")

# Every alert by itself, at once, and once more when it has gone.
_ALERTMANAGER = """\
route:
  receiver: test
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
receivers:
  - name: test
    webhook_configs: [{{url: 'http://127.0.0.1:{port}/', send_resolved: true}}]
"""


@dataclass(frozen=True)
class Notice:
    """What Alertmanager tells about one alert."""

    status: str
    alert: str
    instance: str
    annotations: dict[str, str]


class Receiver:
    """Records the notices that it receives."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._news = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver._keep(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Not a word."""

        return Handler

    def _keep(self, message: dict[str, Any]) -> None:
        with self._news:
            for told in message["alerts"]:
                labels = told["labels"]
                notice = Notice(
                    told["status"], labels["alertname"], labels["instance"], told["annotations"]
                )
                print(f"{time.strftime('%T')} {notice}", flush=True)
                self.notices.append(notice)
            self._news.notify_all()

    def wait(self, wanted: Callable[[Notice], bool], begin: int) -> Notice | None:
        """The first notice of a kind after a given number, or None if it has not come in time."""
        with self._news:
            self._news.wait_for(
                lambda: any(map(wanted, self.notices[begin:])), patience(DEADLINE_SECONDS)
            )
            return next(filter(wanted, self.notices[begin:]), None)

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _put_templates() -> None:
    """Alertmanager has the path of Debian's templates built in; the guest's files may change."""
    if not _TEMPLATES.exists():
        _TEMPLATES.parent.mkdir(parents=True, exist_ok=True)
        _TEMPLATES.symlink_to(unpacked("prometheus-alertmanager") / _TEMPLATES.relative_to("/"))


@contextmanager
def _alertmanager(receiver: int, directory: Path) -> Iterator[int]:
    """An Alertmanager that tells a port everything; yields its own."""
    _put_templates()
    config = directory / "alertmanager.yml"
    config.write_text(_ALERTMANAGER.format(port=receiver))
    port = free_port()
    command = [
        str(program("prometheus-alertmanager", "prometheus-alertmanager")),
        f"--config.file={config}",
        f"--storage.path={directory}/alertmanager",
        f"--web.listen-address=127.0.0.1:{port}",
        # Alone: without a network card it finds no address to tell others.
        "--cluster.listen-address=",
        "--log.level=error",
    ]
    with running(command):
        yield port


class Station:
    """Watches the given daemons with the given rules."""

    def __init__(self, directory: Path, rules: str, interval: int) -> None:
        """Scrapes and evaluates every `interval` seconds."""
        self._directory = directory
        self._targets = directory / "targets"
        self._targets.mkdir()
        self._rules = directory / "ksmwatch.rules.yml"
        self._rules.write_text(rules)
        self._interval = interval
        self._cleanup = ExitStack()
        self.receiver = Receiver()
        self.port = 0

    def __enter__(self) -> Self:
        self._cleanup.callback(self.receiver.close)
        alertmanager = self._cleanup.enter_context(
            _alertmanager(self.receiver.port, self._directory)
        )
        config = _PROMETHEUS.format(
            interval=self._interval,
            rules=self._rules,
            alertmanager=alertmanager,
            targets=self._targets,
        )
        self.port = self._cleanup.enter_context(prometheus(config, self._directory))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def watch(self, instance: str, port: int) -> None:
        """Scrape a port under a name, from now on."""
        target = [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": instance}}]
        beside = self._directory / "target"
        beside.write_text(json.dumps(target))
        beside.rename(self._targets / f"{instance}.json")

    def forget(self, instance: str) -> None:
        """Scrape it no more."""
        (self._targets / f"{instance}.json").unlink()

    def pending(self) -> list[str]:
        """Alerts that would fire if it went on."""
        rows = query(self.port, 'ALERTS{alertstate="pending"}')
        return sorted({row["metric"]["alertname"] for row in rows})

    def ask(self, expression: str) -> dict[str, float]:
        """The answers to a query, by instance."""
        rows = query(self.port, expression)
        return {row["metric"]["instance"]: float(row["value"][1]) for row in rows}


class Watched:
    """One instance during a test: which alerts fire and resolve, and that no other does."""

    # What ksmd does to set the scene may cost more than it saves.
    BESIDE = frozenset({"KsmdCpuPerByteHigh"})

    def __init__(self, station: Station, instance: str) -> None:
        self._station = station
        self._instance = instance
        self._begin = len(station.receiver.notices)
        self._expected: set[str] = set()

    def _wait(self, status: str, alert: str) -> Notice:
        notice = self._station.receiver.wait(
            lambda n: (n.status, n.alert, n.instance) == (status, alert, self._instance),
            self._begin,
        )
        assert notice is not None, f"{alert} is not {status}; there was {self.notices()}"
        return notice

    def fires(self, *alerts: str) -> Notice:
        """Returns when alerts have arrived, with the last; their texts are whole."""
        self._expected.update(alerts)
        for alert in alerts:
            notice = self._wait("firing", alert)
            assert self._instance in notice.annotations["summary"]
            for text in notice.annotations.values():
                assert "<error" not in text, text
                assert "<no value>" not in text, text
        return notice

    def resolves(self, *alerts: str) -> None:
        """Returns when it was told that alerts are over."""
        for alert in alerts:
            self._wait("resolved", alert)

    def quiet(self, alert: str) -> bool:
        """Whether an alert has not arrived so far."""
        return all(notice.alert != alert for notice in self.notices())

    def notices(self) -> list[Notice]:
        """Notices about this instance since the test began."""
        told = self._station.receiver.notices[self._begin :]
        return [notice for notice in told if notice.instance == self._instance]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            fired = {notice.alert for notice in self.notices() if notice.status == "firing"}
            assert fired - self.BESIDE == self._expected - self.BESIDE
