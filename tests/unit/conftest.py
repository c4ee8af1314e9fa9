"""Settings of hypothesis; a kernel with KSM that is a fake, and a backend that runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from ksmwatch.counting.live_backend import Live
from ksmwatch.log import logger
from tests.fake_kernel import Kernel

# The same examples in every run; no deadline, which is a clock; nothing is kept on disk.
settings.register_profile("ksmwatch", derandomize=True, deadline=None, database=None)
settings.load_profile("ksmwatch")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel with KSM but without processes."""
    return Kernel(tmp_path)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The fields of every warning."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(logger, "warning", lambda text, extra: found.append(extra))
    return found


@pytest.fixture
def started(kernel: Kernel) -> Live:
    """A backend that has taken its baseline of the processes 10 (7 pages) and 20 (none)."""
    kernel.spawn(10, 7)
    kernel.spawn(20)
    live = kernel.live()
    live.start()
    return live


@pytest.fixture
def idle(kernel: Kernel) -> Live:
    """A host where nothing is merged and ksmd is stopped; the backend does not know yet."""
    kernel.sys.write("run", 0)
    kernel.spawn(10)
    live = kernel.live()
    live.start()
    return live
