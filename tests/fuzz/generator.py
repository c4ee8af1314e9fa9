"""The other end of ksmfuzz."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.children import Ending
from tests.fuzz import swap
from tests.slowness import patience
from tests.workload import built

# Under emulation a pause takes seconds, and a minute where memory is short.
_STALL_SECONDS = 600


@dataclass(frozen=True)
class Pause:
    """A moment in which nothing happens: the operations so far, and the live processes."""

    unmerged: bool
    operations: int
    # A number of its own for each address space, by the pids that have it.
    spaces: dict[int, int]


class Generator(Ending):
    """The random program; iterate over its pauses. It runs on when the next is requested."""

    def __init__(self, seed: int, operations: int, pause: int, *options: str) -> None:
        self.counters: list[str] = []
        self._process = subprocess.Popen(
            [
                *("sh", "-c", f'echo $$ >{swap.GROUP}/cgroup.procs; exec "$@"', "sh"),
                built("ksmfuzz"),
                *("--seed", str(seed), "--ops", str(operations), "--pause", str(pause)),
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def __iter__(self) -> Iterator[Pause]:
        assert self._process.stdin is not None
        while (words := self._words()) and words[0] in ("quiescent", "unmerged"):
            yield Pause(words[0] == "unmerged", int(words[1]), self._spaces())
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        while words[0] == "operation":
            self.counters.append(" ".join(words[1:]))
            words = self._words()
        assert words == ["ended"], words

    def _words(self) -> list[str]:
        assert self._process.stdout is not None
        watch = threading.Timer(patience(_STALL_SECONDS), self._stalled)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        assert line, f"ksmfuzz ended with {self._process.wait()}"
        return line.split()

    def _stalled(self) -> None:
        """Nothing was heard for long: print where each process is, and end the program."""
        for pid in (swap.GROUP / "cgroup.procs").read_text().split():
            for name in ("comm", "syscall", "stack"):
                with contextlib.suppress(OSError):
                    print(f"{pid} {name}:", Path(f"/proc/{pid}/{name}").read_text(), flush=True)
        self._process.kill()

    def _spaces(self) -> dict[int, int]:
        spaces = {}
        while (words := self._words()) != ["."]:
            spaces[int(words[1])] = int(words[2])
        return spaces
