"""``ksmwatch run``: the main loop, its servers, and a clean end."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from ksmwatch.backend import Budget, Mode
from ksmwatch.config import Config
from ksmwatch.errors import Exit
from ksmwatch.facts import read_facts
from ksmwatch.log import logger
from ksmwatch.metrics import Series
from ksmwatch.plan import warnings
from ksmwatch.processes import ProcessTable
from ksmwatch.service import Desk, SocketServer
from ksmwatch.watcher import Watcher, open_keep, start_backend
from ksmwatch.web import WebServer, make_app

# Between two looks at what is due when nobody asks.
TICK_SECONDS = 1.0
# What exact reads of doubtful processes may take of a tick, and of a snapshot.
TICK_BUDGET_SECONDS = 0.1
SNAPSHOT_BUDGET_SECONDS = 2.0


class Daemon:
    """Owns the backend, the servers and the loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = False
        self._desk = Desk()

    def run(self) -> Exit:
        """Serve until SIGTERM or SIGINT. Raises KsmwatchError for what a user can mend.

        Ends with NO_KSM on a kernel without KSM, of which only that fact was exported.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with ExitStack() as cleanup:
            mode = self._serve(cleanup)
        logger.info("stopped; everything is detached")
        return Exit.NO_KSM if mode is Mode.NONE else Exit.OK

    def _serve(self, cleanup: ExitStack) -> Mode:
        config = self._config
        # Listen before probes are attached: what a user got wrong must show at once.
        sock = SocketServer(Path(config.socket), self._desk)
        cleanup.callback(sock.close)
        series = Series(config.owners_top, processes=config.metrics_processes)
        app = make_app(self._desk, config.web_telemetry_path, series)
        webs = [WebServer(address, app) for address in config.web_listen_address]
        facts = read_facts()
        backend, obstacle = start_backend(facts, config, open_keep(config.state_pin_path))
        cleanup.callback(backend.stop)
        if obstacle is not None:
            logger.warning(obstacle.sentence, extra={"mode": backend.mode.value})
        elif backend.mode is Mode.BPF:
            for warning in warnings(facts):
                logger.warning(warning)
        table = ProcessTable()
        watcher = Watcher(backend, facts, table, obstacle.sentence if obstacle else None)
        watcher.follow_processes()
        servers: list[SocketServer | WebServer] = [sock, *webs]
        for server in servers:
            server.start()
            cleanup.callback(server.stop)
        cleanup.callback(self._desk.close)
        self._loop(watcher)
        return backend.mode

    def _loop(self, watcher: Watcher) -> None:
        self._publish(watcher)
        logger.info(
            "ready",
            extra={
                "mode": watcher.backend.mode.value,
                "asleep": watcher.backend.asleep,
                "listen": ",".join(f"{a.host}:{a.port}" for a in self._config.web_listen_address),
                "socket": self._config.socket,
                "pid": os.getpid(),
            },
        )
        due = time.monotonic() + TICK_SECONDS
        while not self._stopping:
            if self._desk.wait_for_request(max(0.0, due - time.monotonic())):
                self._publish(watcher)
            # However often somebody asks: what is due is done.
            if time.monotonic() >= due:
                watcher.tick(self._tick_budget(watcher))
                due = time.monotonic() + TICK_SECONDS

    def _publish(self, watcher: Watcher) -> None:
        self._desk.publish(lambda: watcher.snapshot(SNAPSHOT_BUDGET_SECONDS))

    def _tick_budget(self, watcher: Watcher) -> Budget:
        if watcher.backend.mode is Mode.POLL:
            share = self._config.poll_cpu_percent / 100
            return Budget(TICK_SECONDS * share, time.thread_time)
        return Budget(TICK_BUDGET_SECONDS)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._desk.close()
