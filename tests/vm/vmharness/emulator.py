"""The QEMU of Debian 13, unpacked beside this machine's own, for guests that run in parallel.

With a host thread for each CPU, QEMU 7.2 of Debian 12 runs torn instructions while the kernel
patches code that another CPU executes. QEMU 10 was not seen to do so.
"""

from __future__ import annotations

from pathlib import Path

from . import trees
from .errors import HarnessError

NAME = "qemu"
PACKAGES = ("qemu-system-x86", "seabios")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


def command(root: Path) -> tuple[str, ...]:
    """How to start it with its own libraries and firmware, which this machine may not have."""
    libraries = root / _LIBRARIES
    return (
        str(libraries / "ld-linux-x86-64.so.2"),
        *("--library-path", str(libraries)),
        str(root / "usr/bin/qemu-system-x86_64"),
        *(word for each in _FIRMWARE for word in ("-L", str(root / each))),
    )


def ensure() -> tuple[str, ...]:
    """The command, after it has been unpacked if it must be. Raises HarnessError."""
    root = trees.ensure(NAME, "amd64", PACKAGES)
    words = command(root)
    if not Path(words[0]).exists():
        raise HarnessError(f"{root} has no {_LIBRARIES}/ld-linux-x86-64.so.2")
    return words
