"""Starting guests: one place that knows how a command is run in a test kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.deadlines import seconds_in

ROOT = Path(__file__).resolve().parents[1]
_RUN = ROOT / "tests/vm/run"
# How many times slower than it could a guest shall run; `make test SLOW=3` sets it.
SLOW = "KSMWATCH_TEST_SLOW"


@dataclass(frozen=True)
class Guest:
    """A machine, with the options of tests/vm/run."""

    kernel: str
    memory: str = "2G"
    cpus: int = 2
    nodes: int = 1
    icount: bool = False
    root: str | None = None
    publish: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def argv(self, *command: str | Path) -> list[str]:
        """The command line that runs a command in it."""
        return [
            *(str(_RUN), "--kernel", self.kernel, "--memory", self.memory),
            *("--cpus", str(self.cpus), "--nodes", str(self.nodes)),
            *("--slow", os.environ.get(SLOW, "1")),
            *(["--icount"] if self.icount else []),
            *(["--root", self.root] if self.root else []),
            *(word for each in self.publish for word in ("--publish", each)),
            *(f"--env={name}={value}" for name, value in self.environment.items()),
            *self.options,
            *("--", *map(str, command)),
        ]


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """The command for a Python module of this checkout."""
    return (sys.executable, "-m", name, *arguments)


@contextmanager
def started(
    guest: Guest, *command: str | Path, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A guest that runs a command, with readable output; it ends with the block."""
    process = subprocess.Popen(
        guest.argv(*command),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """What a guest prints, line by line."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip("\n")


class _Watch:
    """Ends a guest that says nothing for longer than any test may take there.

    pytest ends a test that takes too long; this is for a guest in which nothing runs any more.
    """

    def __init__(self, guest: subprocess.Popen[str]) -> None:
        self._guest = guest
        self._seconds = 0.0
        self._timer: threading.Timer | None = None

    def hear(self, line: str) -> None:
        """It has said something."""
        if seconds := seconds_in(line):
            self._seconds = 1.5 * seconds
        self.stop()
        if self._seconds:
            self._timer = threading.Timer(self._seconds, self._guest.terminate)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """It may be silent."""
        if self._timer is not None:
            self._timer.cancel()


def watched(guest: Guest, tests: Sequence[str], show: Callable[[str], None]) -> int:
    """Run pytest in a guest, with the plugin `tests.deadlines`; its exit status."""
    with started(guest, *tests, stderr=subprocess.STDOUT) as process:
        watch = _Watch(process)
        for line in lines(process):
            watch.hear(line)
            show(line)
        watch.stop()
        return process.wait()


def status(guest: Guest, *command: str | Path) -> int:
    """Run a command in a guest, which prints here; its exit status."""
    return subprocess.run(
        guest.argv(*command), cwd=ROOT, stdin=subprocess.DEVNULL, check=False
    ).returncode
