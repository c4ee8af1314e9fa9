"""A fake daemon: serves an invented host on a socket, until it is ended.

    python -m tests.fake_daemon SOCKET [PROCESSES]

Every further request for a snapshot returns the host two seconds later.
"""

from __future__ import annotations

import json
import socketserver
import sys
from itertools import count
from pathlib import Path
from typing import Any

from tests.made_up_host import areas, document


class Server(socketserver.UnixStreamServer):
    def __init__(self, path: Path, processes: int) -> None:
        path.unlink(missing_ok=True)
        super().__init__(str(path), Handler)
        self.processes = processes
        self.steps = count()


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        if request["command"] == "areas":
            made: dict[str, Any] = {"areas": areas(request["pid"])}
        else:
            made = document(self.server.processes, next(self.server.steps))
        self.wfile.write(json.dumps(made).encode() + b"\n")


if __name__ == "__main__":
    Server(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 40).serve_forever()
