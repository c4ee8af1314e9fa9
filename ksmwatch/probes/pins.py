"""Pins below a BPF file system: what a daemon leaves to its successor where systemd does not."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ksmwatch.kernel import bpf_maps, libbpf, new_maps
from ksmwatch.probes.persistence import links_first

# No name of what is kept begins like this.
_WITNESS = "witness"
# Before kernel 6.18 it takes a grace period of RCU, which can last some seconds where that saves
# power (CONFIG_RCU_LAZY).
FREED_SECONDS, PAUSE = 30.0, 0.005


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Stay on one CPU, if a sandbox does not refuse that."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _wait_for_end(witness: int) -> None:
    late = time.monotonic() + FREED_SECONDS
    with suppress(PermissionError):
        while bpf_maps.exists(witness):
            if time.monotonic() > late:
                raise TimeoutError(errno.ETIMEDOUT, "the kernel does not remove pins")
            time.sleep(PAUSE)


class Pins:
    """Pins in a directory of a BPF file system, used by one daemon at a time."""

    works = True
    hands_over = False

    def __init__(self, directory: Path) -> None:
        """Raises OSError: no BPF file system, not allowed, or (EWOULDBLOCK) in use."""
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def load(self) -> dict[str, int]:
        """Open every pin."""
        (self._directory / _WITNESS).unlink(missing_ok=True)
        return {path.name: libbpf.obj_get(str(path)) for path in sorted(self._directory.iterdir())}

    def open(self, name: str) -> int | None:
        """Open one pin."""
        path = self._directory / name
        return libbpf.obj_get(str(path)) if path.exists() else None

    def store(self, name: str, fd: int) -> None:
        """Pin a descriptor, in place of an earlier one with this name."""
        self.drop(name)
        libbpf.obj_pin(fd, str(self._directory / name))

    def drop(self, *names: str) -> None:
        """Remove pins. An object goes with its last descriptor, at the moment it is closed."""
        self._remove([path for path in map(self._directory.joinpath, names) if path.exists()])

    def clear(self) -> None:
        """Remove all pins."""
        self._remove(sorted(self._directory.iterdir(), key=lambda path: links_first(path.name)))

    def _remove(self, paths: list[Path]) -> None:
        """Remove files, and wait until the kernel has given up what they kept.

        A pin keeps its object until its inode is freed, which RCU does later: before commit
        4f375ade6aa9 (6.18, and stable kernels since then). A kprobe whose link lives on after we
        have closed it still runs its program, beside the next one with the same program: each event
        would count twice. RCU frees what one CPU has given it in that order, so when a witness that
        was removed last is gone, the others are. Raises TimeoutError.

        Only who has CAP_SYS_ADMIN can have such a witness, as a daemon with kprobes does. Without
        kprobes nothing counts twice: the kernel refuses a second fentry attachment of a program,
        and `Attachments` tries it again.
        """
        if not paths:
            return
        with _one_cpu():
            for path in paths:
                path.unlink()
            witness = self._pass_witness()
        if witness is not None:
            _wait_for_end(witness)

    def _pass_witness(self) -> int | None:
        """Pin a map that nothing else keeps, remove the pin, and return the map's number.

        None without the capability to create one.
        """
        try:
            witness = new_maps.array(_WITNESS, 4)
        except PermissionError:
            return None
        path = self._directory / _WITNESS
        try:
            libbpf.obj_pin(witness.fd, str(path))
            number = bpf_maps.identity(witness.fd)
        finally:
            os.close(witness.fd)
        path.unlink()
        return number
