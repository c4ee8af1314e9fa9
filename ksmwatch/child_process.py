"""Starts a process of ours: isolated from where and by whom the command was called (CWE-427).

The child is Python without the current directory, the user's packages and any PYTHON* variable
(`-I`). It begins in the root directory, with the few variables that are named here. It gets one
end of a socket pair, whose number is its last argument, and the descriptors that it is given.
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

# What a child may start (libbcc unpacks kernel headers by `tar`) is the system's.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
# Lists of paths by which libraries are found. The others would be looked for in the directory
# in which the command was called, an empty one too.
_KEPT_IF_ABSOLUTE = ("LD_LIBRARY_PATH", "OPENSSL_CONF")

# What the child begins with. Its own Python finds all packages, except ours where nobody has
# installed it: so this very package is imported from where it is, and the directory beside it
# comes last for everything else, as a checkout may have a `json.py`.
_BEGIN = """
import sys
root, module = sys.argv[1:3]
del sys.argv[1:3]
sys.path.insert(0, root)
import ksmwatch
sys.path.append(sys.path.pop(0))
from importlib import import_module
import_module(module).main()
"""
_ROOT = Path(__file__).resolve().parents[1]

# How long a child may take to end once its channel is closed.
_PATIENCE_SECONDS = 5.0
# How clang begins the line of an error.
_ERROR = re.compile(r"\b(?:fatal )?error: ")


class Errors(Enum):
    """Where the child's standard error goes: to ours, or into memory until it is asked for."""

    SHOWN = "shown"
    COLLECTED = "collected"


class Child:
    """A process of ours, from its start until it is collected.

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
        """Start it: `main()` of this module. Raises OSError.

        `own_group`: Ctrl-C on the terminal is not for it.
        """
        # A file takes whatever a compiler writes, so nobody has to read while the child runs.
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
        """Close the channel and wait for the child, which is killed if it takes long.

        Returns how it ended. Afterwards `complaint` is the line that says what was wrong.
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
    """What a child sees of an environment."""
    kept = {name: ours[name] for name in _KEPT if name in ours}
    for name in _KEPT_IF_ABSOLUTE:
        paths = [path for path in ours.get(name, "").split(":") if path.startswith("/")]
        if paths:
            kept[name] = ":".join(paths)
    return {"PATH": _PATH, **kept}


def first_error(text: str) -> str:
    """The first error of a compiler, of which others follow; or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors[:1] or lines[-1:] or [""])[0]
