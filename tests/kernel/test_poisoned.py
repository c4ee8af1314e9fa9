"""As root, in a directory and an environment that another user has prepared (CWE-427)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksmwatch.history.store import FILE_NAME, Store
from tests import poison
from tests.ksmctl import Ksm
from tests.past import BEGIN, crowd, past_moment
from tests.poison import Poison
from tests.waiting import wait_until

pytestmark = pytest.mark.once


def write_history(directory: Path) -> None:
    """Two moments of the last minute."""
    directory.mkdir()
    store = Store(directory / FILE_NAME, 10**7)
    now = time.time() - BEGIN
    for seconds in (now - 20, now - 10):
        store.add(past_moment(seconds, crowd(seconds, 2)))
    store.close()


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed."""
    return poison.install(tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Poison:
    """Poison, once for all tests."""
    return poison.spread(tmp_path_factory.mktemp("spread"))


@pytest.fixture
def poisoned(spread: Poison) -> Iterator[Poison]:
    """Poison, none of which may have run afterwards."""
    yield spread
    assert spread.ran() == []


def environment(poisoned: Poison) -> dict[str, str]:
    return {**os.environ, **poisoned.environment}


@pytest.mark.parametrize("command", [*poison.COMMANDS, "--help"])
def test_no_command_runs_what_lies_about(
    command: str, launcher: Path, poisoned: Poison, ksm: Ksm, tmp_path: Path
) -> None:
    write_history(tmp_path / "history")
    words = poison.COMMANDS.get(command, "").format(*[tmp_path] * 2).split()
    done = subprocess.run(
        [launcher, command, *words],
        cwd=poisoned.directory,
        env=environment(poisoned),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_runs_nothing_that_lies_about(
    launcher: Path, poisoned: Poison, ksm: Ksm, tmp_path: Path
) -> None:
    metrics = poisoned.directory / "ksmwatch.prom"
    options = (
        *("--socket", tmp_path / "socket", "--web.listen-address=127.0.0.1:0"),
        *(f"--textfile.directory={poisoned.directory}", "--textfile.interval=1"),
        "--state.pin-path=",
    )
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [launcher, "run", *options],
            cwd=poisoned.directory,
            env=environment(poisoned),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        ) as daemon,
    ):
        try:
            # The file is there when the compiler and both fronts have begun.
            wait_until(lambda: metrics.exists() or daemon.poll() is not None, log.read_text)
            assert metrics.exists(), log.read_text()
            assert Path(f"/proc/{daemon.pid}/comm").read_text() == "ksmwatch\n"
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait() == 0, log.read_text()
        finally:
            # One that is left would spoil the tests that follow.
            daemon.kill()
