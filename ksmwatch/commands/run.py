"""``ksmwatch run``: the main loop, its servers, and a clean shutdown."""

from __future__ import annotations

import errno
import gc
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ksmwatch import log
from ksmwatch.commands.rest import Rest, settings
from ksmwatch.config import Config, reloaded
from ksmwatch.counting.backend import Backend, Budget
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.choose_backend import (
    OBSTACLES,
    obstacle_of,
    open_keep,
    start_backend,
    start_live,
)
from ksmwatch.counting.live_backend import Live
from ksmwatch.errors import ConfigError, Exit
from ksmwatch.export.front_keeper import Keeper
from ksmwatch.export.fronts import Outputs, sockets
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.kernel.syscalls import give_memory_back
from ksmwatch.log import logger
from ksmwatch.option_values import AUTO
from ksmwatch.owners.processes import ProcessTable
from ksmwatch.probes import capabilities, kept_image
from ksmwatch.probes.loader import Loaded
from ksmwatch.probes.persistence import Keep
from ksmwatch.probes.programs import Programs
from ksmwatch.probes.shortcomings import warnings
from ksmwatch.snapshot.collector import Watcher
from ksmwatch.snapshot.desk import Desk
from ksmwatch.snapshot.socket_server import SocketServer, group_of
from ksmwatch.systemd import Manager

if TYPE_CHECKING:
    from ksmwatch.history.recorder import Recorder

# From a tick to the next, and the same in a rest.
TICK_SECONDS, REST_SECONDS = 1.0, 10.0
# Time between two checks for the end of loading.
_TURN_SECONDS = 0.05
# Limits of exact reads of doubtful processes, in a tick and in a snapshot.
TICK_BUDGET_SECONDS = 0.1
SNAPSHOT_BUDGET_SECONDS = 2.0
# Objects between two searches for cycles. 10,000 processes keep 100,000 objects without any cycle,
# and a search takes longer than making a snapshot of them.
GC_OBJECTS = 200_000


def status_line(backend: Backend, reason: str | None) -> str:
    """The state for `systemctl status`. `reason`: why live accounting is impossible."""
    if backend.mode is Mode.NONE:
        return "This kernel has no KSM: there is nothing to count."
    if backend.mode is Mode.POLL:
        return f"Polling. {reason or 'As configured.'}"
    if backend.asleep:
        return "Live; asleep, as there is no KSM page and ksmd is stopped."
    doubt = backend.doubt
    return f"Live; the host's sum is unknown: {doubt}." if doubt else "Live; counting."


def _give_up_privileges(facts: Facts, backend: Backend) -> None:
    plan = backend.plan if isinstance(backend, Live) else None
    needed = capabilities.needed(plan, smaps_ksm=facts.smaps_ksm)
    if os.geteuid() == 0:
        # Root owns everything anyway. A restarted front must not be root.
        needed |= capabilities.CHANGE_USER
    capabilities.give_up_all_but(needed)


def apart(work: Callable[[], Loaded], meanwhile: Callable[[], None]) -> Loaded:
    """Do work that only waits in a separate thread. Raises what it raises."""
    # Half a megabyte, which most daemons never need.
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool:
        try:
            future = pool.submit(work)
        except RuntimeError as error:
            # A thread that cannot be started, for lack of memory or of processes.
            raise OSError(errno.EAGAIN, str(error)) from error
        while not wait([future], timeout=_TURN_SECONDS).done:
            meanwhile()
        return future.result()


class Daemon:
    """Owns the backend, the servers and the loop.

    `reread` returns the configuration, read again, or raises ConfigError.
    """

    def __init__(self, config: Config, reread: Callable[[], Config], manager: Manager) -> None:
        self._config = config
        self._reread = reread
        self._manager = manager
        self._stopping = False
        self._reload_wanted = False
        self._desk = Desk()
        self._start_again: Callable[[], None] = lambda: None
        self._recorder: Recorder | None = None

    def run(self) -> Exit:
        """Serve until SIGTERM or SIGINT. Raises KsmwatchError for errors that a user can fix.

        Ends with NO_KSM on a kernel without KSM, after exporting only that fact.
        """
        gc.set_threshold(GC_OBJECTS)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        self._manager.status("Attaching probes, or taking over those that are attached.")
        with ExitStack() as cleanup:
            mode = self._serve(cleanup)
        logger.info("stopped")
        return Exit.NO_KSM if mode is Mode.NONE else Exit.OK

    def _serve(self, cleanup: ExitStack) -> Mode:
        config = self._config
        # Listen before probes are attached: a user's mistakes must show at once.
        sock = SocketServer(Path(config.socket), self._desk, group_of(config.socket_group))
        cleanup.callback(sock.close)
        losses: Counter[str] = Counter()
        fronts = self._launch_fronts(cleanup, losses)
        self._recorder = self._make_recorder()
        keep = open_keep(config.state_pin_path, self._manager)
        facts = read_facts(image=kept_image.load(keep))
        backend, obstacle = start_backend(facts, config, keep, self._manager.beat)
        cleanup.callback(backend.stop)
        if backend.mode is not Mode.BPF:
            # Left by an earlier daemon, on another kernel or with another configuration.
            keep.clear()
        if obstacle is not None:
            logger.warning(obstacle.sentence, extra={"mode": backend.mode.value})
        elif backend.mode is Mode.BPF:
            for warning in warnings(facts, backend.plan if isinstance(backend, Live) else None):
                logger.warning(warning)
        table = ProcessTable()
        watcher = Watcher(
            backend, facts, table, obstacle.sentence if obstacle else None, losses=losses
        )
        if obstacle is not None and backend.mode is Mode.POLL:
            watcher.comeback.failed(time.monotonic(), passing=obstacle.passing)
        self._start_again = lambda: self._come_back(watcher, facts, keep, cleanup)
        recorder = self._recorder
        if recorder is not None:
            watcher.follow_history(lambda: recorder.state)
        watcher.follow_processes()
        # Before there are threads: each has its own capabilities.
        if not watcher.comeback.waits:
            _give_up_privileges(facts, backend)
        sock.start()
        cleanup.callback(sock.stop)
        for front in fronts:
            front.start()
        if recorder is not None:
            recorder.start()
            cleanup.callback(recorder.stop)
        # First: their threads may be waiting for a snapshot.
        cleanup.callback(self._desk.close)
        self._loop(watcher, obstacle.sentence if obstacle else None)
        self._manager.stopping()
        self._record(watcher, last=True)
        return watcher.backend.mode

    def _make_recorder(self) -> Recorder | None:
        """It sets the directory's group, which may need a capability that is given up later."""
        wanted = self._config.history_directory
        if not wanted or (wanted == AUTO and "STATE_DIRECTORY" not in os.environ):
            return None
        # Imported here: without a history, SQLite is not loaded.
        from ksmwatch.history.recorder import recorder_of

        return recorder_of(self._config, lambda: self._config.owners_top)

    def _launch_fronts(self, cleanup: ExitStack, losses: Counter[str]) -> list[Keeper]:
        """Before BPF, so that a front is healthy early."""
        outputs = Outputs(lambda: self._config, self._desk, losses)
        listening = sockets(self._config, self._manager)
        for sock in listening:
            cleanup.callback(sock.close)
        fronts = [outputs.web(listening)] if listening else []
        if self._config.textfile_directory:
            fronts.append(outputs.textfile())
        for front in fronts:
            front.launch()
            cleanup.callback(front.stop)
        return fronts

    def _loop(self, watcher: Watcher, reason: str | None = None) -> None:
        self._publish(watcher)
        give_memory_back()
        self._manager.status(status_line(watcher.backend, reason))
        self._manager.ready()
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
        with closing(Rest(settings(Path("/proc"), Path("/sys")))) as rest:
            while not self._stopping:
                pause = max(0.0, due - time.monotonic())
                if self._desk.wait_for_request(pause, rest.descriptors):
                    self._publish(watcher)
                    # A snapshot may find that KSM is not asleep any more.
                    due = min(due, time.monotonic() + TICK_SECONDS)
                if self._reload_wanted:
                    self._reload(watcher)
                # However often requests come, due work is done.
                if time.monotonic() >= due or rest.is_over():
                    rest.before_tick(watcher.process_events)
                    self._tick(watcher, reason)
                    due = self._next_tick(rests=rest.after_tick(asleep=watcher.backend.rests))

    def _tick(self, watcher: Watcher, reason: str | None) -> None:
        changed = watcher.tick(self._tick_budget(watcher))
        if watcher.comeback.is_due(time.monotonic()):
            self._start_again()
        self._record(watcher)
        # To ask for it costs more than a tick that finds nothing to do.
        if changed:
            self._manager.status(status_line(watcher.backend, reason))
        self._manager.beat()

    def _next_tick(self, *, rests: bool) -> float:
        """When it is due, on the monotonic clock."""
        now = time.monotonic()
        soon = now + TICK_SECONDS
        if not rests:
            return soon
        due = now + min(REST_SECONDS, self._manager.interval or REST_SECONDS)
        if self._recorder is not None:
            due = min(due, self._recorder.due)
        return max(due, soon)

    def _come_back(self, watcher: Watcher, facts: Facts, keep: Keep, cleanup: ExitStack) -> None:
        """Try again to count live. Meanwhile polling answers requests."""
        comeback = watcher.comeback
        comeback.begin()

        def meanwhile() -> None:
            self._manager.beat()
            # While the new backend starts, the old one answers, and must not start by itself.
            if watcher.backend.mode is not Mode.BPF and self._desk.wait_for_request(0.0):
                self._publish(watcher)

        try:
            # Again: a shortage may have prevented it before.
            facts = read_facts()
            programs = Programs(facts, self._config.state_programs_path)
            live, _ = start_live(
                facts,
                self._config,
                keep,
                meanwhile,
                lambda *what: apart(lambda: programs.load(*what), meanwhile),
            )
        except OBSTACLES as error:
            obstacle = obstacle_of(error)
            comeback.failed(time.monotonic(), passing=obstacle.passing)
            logger.warning(
                "live accounting is not possible yet",
                extra={
                    "why": obstacle.sentence,
                    "attempts": comeback.attempts,
                    "tried_again": comeback.waits,
                },
            )
        else:
            watcher.take(live)
            cleanup.callback(live.stop)
            logger.info("live accounting has started", extra={"attempts": comeback.attempts})
        if not comeback.waits:
            _give_up_privileges(facts, watcher.backend)

    def _publish(self, watcher: Watcher) -> None:
        self._desk.publish(lambda: watcher.snapshot(SNAPSHOT_BUDGET_SECONDS))

    def _record(self, watcher: Watcher, *, last: bool = False) -> None:
        """Put a snapshot into the history if one is due: one made for others, if it is new.

        While nothing moves, that is seldom. `last`: the daemon ends.
        """
        recorder, now = self._recorder, time.monotonic()
        if recorder is None or watcher.backend.mode is Mode.NONE:
            return
        if not (last or recorder.is_due(now)):
            return
        snapshot, taken = self._desk.latest
        began = time.thread_time()
        if snapshot is None or not recorder.is_new(taken, now):
            if not last and recorder.may_wait(now, watcher.moved_since):
                return
            self._publish(watcher)
            snapshot, _ = self._desk.latest
        if snapshot is not None:
            recorder.take(snapshot, time.thread_time() - began)

    def _reload(self, watcher: Watcher) -> None:
        """Reread the configuration, and apply what is possible. An invalid one changes nothing."""
        self._reload_wanted = False
        self._manager.reloading()
        try:
            self._config, restart = reloaded(self._config, self._reread())
        except ConfigError as error:
            logger.error(
                "the configuration is invalid; the previous one stays in use",
                extra={"why": str(error)},
            )
            watcher.reload_failed()
        else:
            log.configure(self._config.log_level, self._config.log_format)
            watcher.backend.configure(self._config)
            watcher.reload_taken()
            logger.info("configuration reloaded", extra={"restart_for": ",".join(restart)})
        self._manager.ready()

    def _tick_budget(self, watcher: Watcher) -> Budget:
        if watcher.backend.mode is Mode.POLL:
            share = self._config.poll_cpu_percent / 100
            return Budget(TICK_SECONDS * share, time.thread_time)
        return Budget(TICK_BUDGET_SECONDS)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        self._reload_wanted = True
        self._desk.ring()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._desk.close()
