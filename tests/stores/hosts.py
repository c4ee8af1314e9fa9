"""Hosts that do not exist, as a Prometheus scrapes them: each at a path of its own."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ksmwatch.counting.backend_state import AuditState
from ksmwatch.export.samples import Series
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.model import Snapshot
from tests.children import Ending
from tests.exposed import exposed
from tests.made_up import numbers, snapshot
from tests.made_up_host import crowd

_PROCESSES = 12


def host(number: int, step: int) -> Snapshot:
    """One of them, some time after its first scrape: what counts has grown, what is may fall."""
    processes = crowd(_PROCESSES, step * (number + 1))
    total = sum(each.mappings for each in processes)
    wave = 100 * (step % 7)
    found = numbers()
    ksm = {**(found.ksm or {}), "pages_shared": 900 + wave, "pages_sharing": total - 1700 + wave}
    made = snapshot(
        processes=processes,
        moved=defaultdict(lambda: (0,) * len(Movement)),
        rooms={},
        audit=AuditState(12, 3, step // 5, step // 7, 0, 0, 0),
        numbers=numbers(
            ksm=ksm,
            vmstat={"cow_ksm": 17 + 41 * step * (number + 1)},
            ksmd_cpu=round(12.5 + step * (0.3 + 0.1 * number), 2),
        ),
    )
    return dataclasses.replace(made, losses={**made.losses, "events_lost": step // 11})


class Hosts(Ending):
    """Serves them. Each scrape finds its host one step later, until they shall rest."""

    def __init__(self, *, processes: bool = False) -> None:
        """`processes`: with series for each."""
        self._series = Series(processes=processes)
        # Of each answer, as when a daemon settles doubts first.
        self.delay_seconds = 0.0
        self.scrapes: Counter[int] = Counter()
        self._steps: Counter[int] = Counter()
        self._resting = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def rest(self) -> None:
        """Nothing moves any more."""
        self._resting.set()

    def answer(self, number: int) -> bytes:
        """What a host says now."""
        self.scrapes[number] += 1
        if not self._resting.is_set():
            self._steps[number] += 1
        return exposed(host(number, self._steps[number]), self._series).encode()

    def targets(self, tenants: tuple[str, ...]) -> list[dict[str, Any]]:
        """For `static_configs`: one host for each of these."""
        return [
            {
                "targets": [f"127.0.0.1:{self.port}"],
                "labels": {
                    "instance": f"kvm-{number:02}",
                    "tenant": tenant,
                    "__metrics_path__": f"/{number}",
                },
            }
            for number, tenant in enumerate(tenants)
        ]

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hosts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(hosts.delay_seconds)
                body = hosts.answer(int(self.path.strip("/")))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Not a word."""

        return Handler
