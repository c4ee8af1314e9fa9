"""The daemon's main loop: frequent requests must not keep it from due work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch import config, systemd
from ksmwatch.commands import run
from ksmwatch.commands.run import Daemon, status_line
from ksmwatch.config import Config
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.choose_backend import obstacle_of
from ksmwatch.counting.comeback import Comeback
from ksmwatch.errors import ConfigError, NoLiveError
from ksmwatch.log import logger


class Backend:
    """Stops the loop at the third tick."""

    mode = Mode.BPF
    asleep = False
    rests = False
    doubt: str | None = None

    def __init__(self, *, doubts: bool = False) -> None:
        self.ticks = 0
        self.doubts = doubts
        self.stop: Any = None
        self.configured: list[Config] = []

    def configure(self, settings: Config) -> None:
        """New settings."""
        self.configured.append(settings)

    def tick(self, budget: object) -> bool:
        """Something was due. In the second tick, a doubt comes."""
        self.ticks += 1
        if self.ticks == 3:
            self.stop()
        if self.ticks == 2 and self.doubts:
            self.doubt = "why"
        return self.doubts and self.ticks == 2


class Manager(systemd.Manager):
    """Records messages to systemd."""

    def __init__(self) -> None:
        super().__init__({"NOTIFY_SOCKET": "@nowhere", "WATCHDOG_USEC": "1"})
        self.told: list[str] = []

    def _tell(self, text: str, *fds: int) -> None:
        self.told.append(text)


def made(
    reread: Callable[[], Config] = lambda: config.make({}, {}),
    manager: Manager | None = None,
) -> Daemon:
    return Daemon(config.make({}, {}), reread, manager or Manager())


def loop(tested: Daemon, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Until the third tick; what became of each configuration that was read."""
    read: list[str] = []

    def stop() -> None:
        tested._stopping = True

    backend.stop = stop
    monkeypatch.setattr(run, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(tested, "_publish", lambda _: None)
    watcher = SimpleNamespace(
        backend=backend,
        process_events=None,
        tick=backend.tick,
        reload_taken=lambda: read.append("taken"),
        reload_failed=lambda: read.append("failed"),
        comeback=Comeback(),
    )
    tested._loop(watcher)  # type: ignore[arg-type]
    return read


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_due_is_done_however_often_somebody_asks(
    wanted: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "TICK_SECONDS", 0.01)
    published: list[float] = []
    tested, backend = made(), Backend()

    def stop() -> None:
        tested._stopping = True

    def wait_for_request(seconds: float, descriptors: tuple[int, ...]) -> bool:
        assert descriptors == ()
        assert 0 <= seconds <= 0.01
        return wanted

    backend.stop = stop
    monkeypatch.setattr(tested._desk, "wait_for_request", wait_for_request)
    monkeypatch.setattr(tested, "_publish", lambda _: published.append(1))
    watcher: Any = SimpleNamespace(
        backend=backend,
        process_events=None,
        tick=backend.tick,
        comeback=Comeback(),
    )
    tested._loop(watcher)
    assert backend.ticks == 3
    # Once for being ready, then as often as was asked.
    assert len(published) == 1 if not wanted else len(published) > 1


def test_systemd_is_told_what_is_and_each_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager, backend = Manager(), Backend()
    loop(made(manager=manager), backend, monkeypatch)
    status = "STATUS=Live; counting."
    assert manager.told == [status, "READY=1", *["WATCHDOG=1"] * 3]


def test_systemd_is_told_when_a_tick_has_changed_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager, backend = Manager(), Backend(doubts=True)
    loop(made(manager=manager), backend, monkeypatch)
    told = [text for text in manager.told if text.startswith("STATUS")]
    assert told[1:] == ["STATUS=Live; the host's sum is unknown: why."]


def test_a_new_configuration_is_taken_as_far_as_that_is_possible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = config.make({}, {"poll_interval": 7, "audit_heal": False, "accounts_max": 16})
    manager, backend = Manager(), Backend()
    tested = made(lambda: wanted, manager)
    tested._on_hangup(1, None)
    assert loop(tested, backend, monkeypatch) == ["taken"]
    (taken,) = backend.configured
    assert (taken.poll_interval, taken.audit_heal, taken.accounts_max) == (7, False, 65536)
    told = [text.partition("=")[0] for text in manager.told if not text.startswith("WATCHDOG")]
    assert told == ["STATUS", "READY", "RELOADING", "READY"]


def test_a_bad_configuration_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def reread() -> Config:
        raise ConfigError("ksmwatch.toml: there is no setting 'owner'.")

    manager, backend = Manager(), Backend()
    tested = made(reread, manager)
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(logger, "error", lambda text, extra: said.append((text, extra["why"])))
    tested._on_hangup(1, None)
    # The one that is in use was taken before.
    assert loop(tested, backend, monkeypatch) == ["failed"]
    assert not backend.configured
    assert said == [
        (
            "the configuration is invalid; the previous one stays in use",
            "ksmwatch.toml: there is no setting 'owner'.",
        )
    ]
    assert manager.told.count("READY=1") == 2


@pytest.mark.parametrize(
    ("mode", "asleep", "doubt", "reason", "status"),
    [
        (Mode.BPF, False, None, None, "Live; counting."),
        (Mode.BPF, False, "why", None, "Live; the host's sum is unknown: why."),
        (Mode.BPF, True, None, None, "Live; asleep, as there is no KSM page and ksmd is stopped."),
        (Mode.POLL, False, "why", "Not enough.", "Polling. Not enough."),
        (Mode.POLL, False, "why", None, "Polling. As configured."),
        (Mode.NONE, True, None, "No KSM.", "This kernel has no KSM: there is nothing to count."),
    ],
)
def test_the_status_says_how_it_counts_and_what_is_not_known(
    mode: Mode,
    asleep: bool,  # noqa: FBT001
    doubt: str | None,
    reason: str | None,
    status: str,
) -> None:
    backend: Any = SimpleNamespace(mode=mode, asleep=asleep, doubt=doubt)
    assert status_line(backend, reason) == status


def come_back(
    answers: list[Exception | Backend], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, list[object]]:
    """Attempts until there are no more answers; the watcher, and when privileges were given up."""
    given_up: list[object] = []
    watcher: Any = SimpleNamespace(backend="poll", comeback=Comeback(waits=True))

    def take(backend: object) -> None:
        watcher.backend = backend
        watcher.comeback.succeeded()

    def start_live(*_: object) -> tuple[object, None]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, None

    watcher.take = take
    monkeypatch.setattr(run, "read_facts", lambda: None)
    monkeypatch.setattr(run, "start_live", start_live)
    monkeypatch.setattr(run, "_give_up_privileges", lambda _, backend: given_up.append(backend))
    while answers and watcher.comeback.waits:
        made()._come_back(watcher, None, None, ExitStack())  # type: ignore[arg-type]
    return watcher, given_up


def test_it_goes_live_when_what_stood_in_the_way_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timeout = NoLiveError("The BPF compiler failed: timed out.").but_it_may_pass()
    live = Backend()
    short: list[Exception | Backend] = [timeout, OSError(12, "No memory"), MemoryError()]
    watcher, given_up = come_back([*short, live], monkeypatch)
    assert watcher.backend is live
    assert (watcher.comeback.attempts, watcher.comeback.waits) == (4, False)
    # Not before: loading needs them.
    assert given_up == [live]


def test_what_turns_out_to_be_for_ever_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = NoLiveError("No memory.").but_it_may_pass()
    answers: list[Exception | Backend] = [first, NoLiveError("Never."), Backend()]
    watcher, given_up = come_back(answers, monkeypatch)
    assert (watcher.backend, watcher.comeback.attempts, watcher.comeback.waits) == (
        "poll",
        2,
        False,
    )
    assert given_up == ["poll"]


def test_who_waits_for_the_loader_does_what_is_due_meanwhile() -> None:
    turns: list[int] = []
    done = threading.Event()

    def meanwhile() -> None:
        turns.append(1)
        if len(turns) == 3:
            done.set()

    loaded: Any = object()

    def work() -> Any:
        assert done.wait(10)
        return loaded

    # Only the third turn lets the work end.
    assert run.apart(work, meanwhile) is loaded
    with pytest.raises(NoLiveError):
        run.apart(lambda: (_ for _ in ()).throw(NoLiveError("No.")), meanwhile)


def test_a_thread_that_cannot_be_started_is_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="can't start new thread") as error:
        run.apart(lambda: pytest.fail("it ran"), lambda: None)
    assert obstacle_of(error.value).passing


# ---- the history ----


class Recorder:
    """Notes what it is given, and is due when it is told."""

    def __init__(self) -> None:
        self.due = True
        self.new = False
        self.still = False
        self.taken: list[object] = []

    def is_due(self, now: float) -> bool:
        return self.due

    def is_new(self, taken: float, now: float) -> bool:
        return self.new

    def may_wait(self, now: float, moved_since: object) -> bool:
        return self.still

    def take(self, snapshot: object, seconds: float) -> None:
        self.taken.append(snapshot)


def recording(monkeypatch: pytest.MonkeyPatch) -> tuple[Daemon, Recorder, Any]:
    """A daemon with a history, whose snapshots are numbers."""
    tested, recorder = made(), Recorder()
    tested._recorder = recorder  # type: ignore[assignment]
    numbers = iter(range(100))
    publish = lambda _: tested._desk.publish(lambda: next(numbers))  # type: ignore[arg-type,return-value]  # noqa: E731
    monkeypatch.setattr(tested, "_publish", publish)
    watcher = SimpleNamespace(backend=Backend(), moved_since=lambda _: True)
    return tested, recorder, watcher


def test_a_new_snapshot_of_others_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    tested, recorder, watcher = recording(monkeypatch)
    tested._record(watcher)
    tested._record(watcher)
    assert recorder.taken == [0, 1]
    recorder.new = True
    tested._record(watcher)
    assert recorder.taken == [0, 1, 1]


def test_nothing_is_recorded_before_it_is_due_or_while_nothing_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tested, recorder, watcher = recording(monkeypatch)
    tested._record(watcher)
    recorder.still = True
    tested._record(watcher)
    recorder.still, recorder.due = False, False
    tested._record(watcher)
    assert recorder.taken == [0]
    # The end is recorded.
    tested._record(watcher, last=True)
    assert recorder.taken == [0, 1]


def test_a_kernel_without_ksm_has_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    tested, recorder, watcher = recording(monkeypatch)
    watcher.backend.mode = Mode.NONE
    tested._record(watcher)
    tested._recorder = None
    watcher.backend.mode = Mode.BPF
    tested._record(watcher)
    assert recorder.taken == []
