"""CPU time of `ksmwatch top` per refresh, in a real terminal of 160x50.

    python -m bench.top [PROCESSES] [REFRESHES]

The times are the whole process's, user and system, all threads: asking, parsing, sorting,
drawing. An invented host is served on a socket; the server's own time is not counted.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pty
import socketserver
import struct
import sys
import tempfile
import termios
import threading
import time
from itertools import count
from pathlib import Path

from tests.made_up_host import document

_SECONDS = 0.5
_CASES = {
    "owners": [],
    "processes": ["-g", "process"],
    "processes by rate": ["-g", "process", "-r", "-s", "came"],
    "processes, filtered": ["-g", "process", "-f", "web"],
    "process tree": ["-g", "tree"],
}


class Host(socketserver.UnixStreamServer):
    """Serves prepared documents in turn, and counts the questions."""

    request_queue_size = 16

    def __init__(self, path: str, processes: int) -> None:
        super().__init__(path, _Question)
        steps = range(4)
        self.answers = [json.dumps(document(processes, n)).encode() + b"\n" for n in steps]
        self.questions = count()
        self.asked = 0
        self.changed = threading.Condition()

    def wait_for(self, asked: int) -> None:
        """Wait until that many questions have come."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.asked >= asked, 120):
                raise TimeoutError("top does not ask")


class _Question(socketserver.StreamRequestHandler):
    server: Host

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(self.server.answers[next(self.server.questions) % 4])
        with self.server.changed:
            self.server.asked += 1
            self.server.changed.notify_all()


def _start(path: str, flags: list[str]) -> tuple[int, int]:
    """`ksmwatch top` in a terminal of its own: its pid and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid == 0:
        argv = ["-m", "ksmwatch", "top", "--socket", path, "-d", str(_SECONDS), *flags]
        # As in a terminal, where all of the machine's colours are there.
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
        environment = {k: v for k, v in environment.items() if v}
        os.execve(sys.executable, [sys.executable, *argv], environment)  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    return pid, terminal


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return


def _cpu_milliseconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1000


def measure(processes: int, refreshes: int, flags: list[str]) -> float:
    """CPU milliseconds per refresh."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/s"
        with Host(path, processes) as host:
            threading.Thread(target=host.serve_forever, daemon=True).start()
            pid, terminal = _start(path, flags)
            threading.Thread(target=_drain, args=(terminal,), daemon=True).start()
            # One is to see whether there is a daemon; starting takes a while.
            host.wait_for(5)
            time.sleep(_SECONDS / 2)
            asked, before = host.asked, _cpu_milliseconds(pid)
            host.wait_for(asked + refreshes)
            time.sleep(_SECONDS / 2)
            spent, made = _cpu_milliseconds(pid) - before, host.asked - asked
            os.write(terminal, b"q")
            os.waitpid(pid, 0)
            host.shutdown()
    return spent / made


def main() -> None:
    """Print a table."""
    processes = int(sys.argv[1]) if sys.argv[1:] else 5000
    refreshes = int(sys.argv[2]) if sys.argv[2:] else 20
    print(f"{processes} processes, {refreshes} refreshes, Python {platform.python_version()}")
    for name, flags in _CASES.items():
        print(f"{name:20}  {measure(processes, refreshes, flags):6.1f} ms", flush=True)


if __name__ == "__main__":
    main()
