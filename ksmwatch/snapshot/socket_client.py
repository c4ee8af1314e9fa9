"""Asks the daemon over its Unix socket."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, cast

from ksmwatch.errors import (
    NoDaemonError,
    PrivilegeError,
)

if TYPE_CHECKING:
    from pathlib import Path


def fetch(path: Path | str, command: str = "snapshot", **details: int) -> dict[str, Any]:
    """Ask the daemon behind a socket.

    Raises NoDaemonError if none answers, PrivilegeError if we may not ask.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(path))
            sock.sendall(json.dumps({"command": command, **details}).encode() + b"\n")
            data = sock.makefile("rb").read()
    except PermissionError as error:
        raise PrivilegeError(
            f"The daemon at {path} does not answer uid {os.geteuid()}, only its own user and group."
        ) from error
    except OSError as error:
        raise NoDaemonError(f"No daemon answers at {path}: {error.strerror or error}.") from error
    try:
        document = json.loads(data)
    except ValueError as error:
        # It was killed while it answered, or it is not ksmwatch.
        raise NoDaemonError(f"The daemon at {path} did not finish its answer.") from error
    if "error" in document:
        raise NoDaemonError(f"The daemon at {path} says: {document['error']}")
    return cast(dict[str, Any], document)
