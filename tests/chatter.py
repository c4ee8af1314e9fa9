"""A child process for tests of ksmwatch.child_process: it prints what it is told to."""

from __future__ import annotations

import json
import os
import socket
import sys
import time


def main() -> None:
    """Write this much to stderr, print its surroundings, and sleep this long."""
    with socket.socket(fileno=int(sys.argv[-1])) as channel:
        wish = json.loads(channel.recv(1 << 16))
        sys.stderr.write(wish.get("errors", ""))
        sys.stderr.flush()
        seen = {
            "cwd": os.getcwd(),
            "environment": dict(os.environ),
            "isolated": sys.flags.isolated,
            "path": sys.path,
        }
        channel.sendall(json.dumps(seen).encode())
        time.sleep(wish.get("sleep", 0))
