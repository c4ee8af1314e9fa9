"""Shares by virtiofs: one virtiofsd for each, which serves one machine and ends with it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import HarnessError
from .machine import Share
from .procs import die_with_parent

# Debian 13 has it in a package of its own, Debian 12 in qemu-system-common.
PLACES = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"))


def program() -> Path:
    """The one that this machine has."""
    for path in PLACES:
        if path.is_file():
            return path
    raise HarnessError("there is no virtiofsd; install the package of that name")


def argv(path: Path, share: Share, fd: int) -> list[str]:
    """Options that the program of QEMU 7 and its successor in Rust both take."""
    return [
        str(path),
        *(f"--fd={fd}", "-o", f"source={share.path}", "-o", "sandbox=chroot", "-o", "xattr"),
        *("-o", f"cache={'always' if share.readonly else 'auto'}", "--rlimit-nofile=0"),
    ]


def serve(path: Path, share: Share) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start one; give the other end of its only connection."""
    name = f"\0ksmwatch-vm-{secrets.token_hex(16)}"
    ours = socket.socket(socket.AF_UNIX)
    with socket.socket(socket.AF_UNIX) as listening:
        # A name that is in no directory, so that a killed run leaves nothing behind.
        listening.bind(name)
        listening.listen(1)
        ours.connect(name)
        process = subprocess.Popen(
            argv(path, share, listening.fileno()),
            pass_fds=(listening.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread has been started yet
        )
    return process, ours


@contextlib.contextmanager
def served(shares: Sequence[Share]) -> Iterator[list[int]]:
    """Sockets for QEMU, in the order of the shares."""
    path = program()
    processes, ends = [], []
    try:
        for share in shares:
            process, end = serve(path, share)
            processes.append(process)
            ends.append(end)
        yield [end.fileno() for end in ends]
    finally:
        for end in ends:
            end.close()
        for process in processes:
            process.kill()
            process.wait()
