"""Serves snapshots on the daemon's Unix socket."""

from __future__ import annotations

import contextlib
import functools
import grp
import json
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import cast

from ksmwatch.errors import (
    ConfigError,
    KsmwatchError,
    ListenError,
    NoDaemonError,
    PrivilegeError,
    SourceError,
)
from ksmwatch.kernel.read_areas import read_all_areas
from ksmwatch.options import DEFAULT_GROUP
from ksmwatch.snapshot.desk import Desk
from ksmwatch.snapshot.document import to_json

_REQUEST_LIMIT = 4096
_SOCKET_SECONDS = 10.0
# How often socketserver checks for its end. Each check wakes the CPU, and `stop` wakes it anyway.
_POLL_SECONDS = 24 * 3600.0


class _Handler(socketserver.StreamRequestHandler):
    timeout = _SOCKET_SECONDS

    def handle(self) -> None:
        """Read one line of JSON, write one line of JSON."""
        with contextlib.suppress(OSError):
            self.wfile.write(self._answer(self.rfile.readline(_REQUEST_LIMIT)) + b"\n")

    def _answer(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
            command = request["command"]
        except (ValueError, TypeError, KeyError):
            return _error("A request is one JSON object with a command, on one line.")
        try:
            if command == "snapshot":
                return to_json(cast(SocketServer, self.server).desk.ask(0))
            if command == "areas" and isinstance(request.get("pid"), int):
                # This thread reads the page tables: the backend is not involved.
                return json.dumps({"areas": read_all_areas(request["pid"])}).encode()
        except (NoDaemonError, SourceError) as error:
            return _error(str(error))
        return _error("Commands are snapshot, and areas with a pid.")


def _error(sentence: str) -> bytes:
    return json.dumps({"error": sentence}).encode()


class SocketServer(socketserver.ThreadingUnixStreamServer):
    """Serves snapshots on a Unix socket to its owner and, if given, to a group."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, desk: Desk, group: int | None = None) -> None:
        self.desk = desk
        self._path = path
        _claim(path)
        previous = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
            if group is not None:
                os.chown(path, -1, group)
                path.chmod(0o660)
        except OSError as error:
            raise _refused(path, error) from error
        finally:
            os.umask(previous)

    def start(self) -> None:
        """Serve on a thread of its own."""
        serve = functools.partial(self.serve_forever, poll_interval=_POLL_SECONDS)
        threading.Thread(target=serve, name="socket", daemon=True).start()

    def stop(self) -> None:
        """Stop serving; `close` removes the socket."""
        # Wakes the thread; it would wait for a connection first.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()

    def close(self) -> None:
        """Remove the socket."""
        self.server_close()
        self._path.unlink(missing_ok=True)


def group_of(name: str) -> int | None:
    """The group that may use the socket; None for none. Raises ConfigError."""
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError:
        if name == DEFAULT_GROUP:
            # The package creates the group; a plain checkout does not.
            return None
        raise ConfigError(f"--socket-group: there is no group {name!r}.") from None


def _claim(path: Path) -> None:
    """Make room for the socket. Raises ListenError if a daemon is behind it."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            # Set the mode whatever our umask is: those who may use the socket must reach it.
            path.parent.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise ListenError(f"Another ksmwatch is running: it answers at {path}.")
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> KsmwatchError:
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return PrivilegeError(
            f"ksmwatch run needs root: uid {os.geteuid()} may not create the socket {path} "
            "(with another --socket it would only poll)."
        )
    return ListenError(f"The socket {path} cannot be created: {error.strerror}.")
