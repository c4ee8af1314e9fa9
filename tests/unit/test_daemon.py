"""The daemon's main loop: who asks often must not keep it from what is due."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch import config, daemon
from ksmwatch.backend import Mode
from ksmwatch.daemon import Daemon


class Backend:
    """Stops the loop at the third tick."""

    mode = Mode.BPF
    asleep = False

    def __init__(self) -> None:
        self.ticks = 0
        self.stop: Any = None

    def tick(self, budget: object) -> None:
        """Something was due."""
        self.ticks += 1
        if self.ticks == 3:
            self.stop()


@pytest.mark.parametrize("wanted", [True, False])
def test_what_is_due_is_done_however_often_somebody_asks(
    wanted: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daemon, "TICK_SECONDS", 0.01)
    published: list[float] = []
    tested, backend = Daemon(config.make({}, {})), Backend()

    def stop() -> None:
        tested._stopping = True

    def wait_for_request(seconds: float) -> bool:
        assert 0 <= seconds <= 0.01
        return wanted

    backend.stop = stop
    monkeypatch.setattr(tested._desk, "wait_for_request", wait_for_request)
    monkeypatch.setattr(tested, "_publish", lambda _: published.append(1))
    tested._loop(SimpleNamespace(backend=backend, tick=backend.tick))  # type: ignore[arg-type]
    assert backend.ticks == 3
    # Once for being ready, then as often as was asked.
    assert len(published) == 1 if not wanted else len(published) > 1
