"""Starts our child processes, isolated from the caller's directory and environment (CWE-427).

The child is Python without the current directory, the user's packages and any PYTHON* variable
(`-I`). It begins in the root directory, with the few variables named here. It gets one end of a
socket pair, whose number is its last argument, and the descriptors passed to it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

# Programs that a child may start (libbcc unpacks kernel headers with `tar`) are the system's.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
# Lists of library paths with absolute entries. Any other entry, even an empty one, would be
# searched relative to the directory in which the command was called.
_KEPT_IF_ABSOLUTE = ("LD_LIBRARY_PATH", "OPENSSL_CONF")

# The child's first code. Its own Python finds all packages, except ours if it is not installed.
# So this very package is imported from its place, and the directory beside it comes last for
# everything else, because a checkout may have a `json.py`.
_BEGIN = """
import sys
root, module = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, root)
from ksmwatch.deferred import IN_CHILDREN, defer
sys.path.append(sys.path.pop(0))
defer(*IN_CHILDREN)
from importlib import import_module
import_module(module).main()
"""
_ROOT = Path(__file__).resolve().parents[1]

# How long a child may take to end once its channel is closed.
_PATIENCE_SECONDS = 5.0
# The beginning of clang's error lines.
_ERROR = re.compile(r"\b(?:fatal )?error: ")


class Errors(Enum):
    """Where the child's standard error goes: to ours, or into memory until it is needed."""

    SHOWN = "shown"
    COLLECTED = "collected"


class Child:
    """A child process, from its start until it is reaped.

    `channel` is our end of the socket pair. As a context manager it ends the process.
    """

    def __init__(
        self,
        module: str,
        *,
        descriptors: Sequence[int] = (),
        errors: Errors = Errors.COLLECTED,
        own_group: bool = False,
    ) -> None:
        """Start `main()` of this module. Raises OSError.

        `own_group`: Ctrl-C on the terminal does not reach it.
        """
        # A file takes all output of a compiler, so nothing has to read while the child runs.
        self._errors = os.memfd_create("errors") if errors is Errors.COLLECTED else None
        self.complaint = ""
        self.channel, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _BEGIN, _ROOT, module, str(theirs.fileno())],
                    pass_fds=[theirs.fileno(), *descriptors],
                    stdin=subprocess.DEVNULL,
                    stdout=None if self._errors is None else subprocess.DEVNULL,
                    stderr=self._errors,
                    cwd="/",
                    env=environment(os.environ),
                    process_group=0 if own_group else None,
                )
        except OSError:
            self.channel.close()
            self._collect_errors()
            raise
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> str:
        """Close the channel and wait for the child, which is killed if it takes too long.

        Returns how it ended. Afterwards `complaint` is the line with the reason of a failure.
        """
        self.channel.close()
        try:
            status = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            how = "killed, as it did not end"
        else:
            how = f"signal {-status}" if status < 0 else f"status {status}"
        self._collect_errors()
        return how

    def _collect_errors(self) -> None:
        if self._errors is not None:
            with os.fdopen(self._errors, errors="replace") as file:
                file.seek(0)
                self.complaint = first_error(file.read())
            self._errors = None


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that a child sees."""
    kept = {name: ours[name] for name in _KEPT if name in ours}
    for name in _KEPT_IF_ABSOLUTE:
        paths = [path for path in ours.get(name, "").split(":") if path.startswith("/")]
        if paths:
            kept[name] = ":".join(paths)
    return {"PATH": _PATH, **kept}


def first_error(text: str) -> str:
    """A compiler's first error, which causes the others; without one, the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors[:1] or lines[-1:] or [""])[0]
