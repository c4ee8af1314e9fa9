"""Child processes of tests and benchmarks: some run in parallel, some answer and end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.slowness import patience

Word = str | Path


class Ending:
    """For a `with` block, at the end of which `end` is called, however that comes."""

    def end(self) -> None:
        """Leave nothing behind."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


@contextmanager
def running(
    command: Sequence[Word], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs meanwhile, and has ended afterwards."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def outcome(command: Sequence[Word], *, seconds: float = 240) -> tuple[int, str]:
    """Exit status of a command, and all its output. `seconds`: on the reference machine."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience(seconds),
        check=False,
    )
    return done.returncode, done.stdout


def output(command: Sequence[Word], *, seconds: float = 240) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=patience(seconds),
        check=True,
    ).stdout
