"""Keeps compiled programs in files: a later start with the same inputs and kernel needs no LLVM.

What is loaded from a file runs in the kernel. So a file counts only if nobody but root can have
written it: both it and its directory belong to root, and nobody else may write them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ksmwatch.digests import blake2b
from ksmwatch.log import logger
from ksmwatch.probes.compiled import Compiled, decode, encode
from ksmwatch.probes.plan import Plan
from ksmwatch.probes.sources import bpf_directory

# Where packages and images put files that were made elsewhere. Nothing is written there.
PACKAGED = "/usr/lib/ksmwatch/programs"
SUFFIX = ".programs"
_ROOT = 0
# In a directory; the oldest go. A kernel has two or three, one for each of --probes.
MOST_FILES = 16
# More of a directory is not looked at, and no larger file is read.
_MOST_NAMES = 256
_MOST_BYTES = 1 << 22
# What makes the programs out of the sources.
_MAKERS = ("compiled.py", "compiler.py")


class UntrustedError(OSError):
    """The file may have been written by a user other than root."""


def key(plan: Plan, flags: Sequence[str], root: Path = Path("/")) -> str:
    """Says what programs are for: sources, flags, plan, and the very build of the kernel.

    Flags have the numbers that come from BTF, and the loader looks up the ids of functions. The
    build id, one of the kernel's notes, stands for the rest.
    """
    made = blake2b(digest_size=16)
    here = Path(__file__).parent
    bpf = bpf_directory()
    for path in (*(here / name for name in _MAKERS), *sorted(bpf.rglob("*.[ch]"))):
        made.update(path.read_bytes())
    kernel = os.uname()
    words = (
        *(kernel.release, kernel.version, kernel.machine, plan.layout, *flags),
        *(repr(sorted(program._asdict().items())) for program in plan.programs),
    )
    made.update("\0".join(words).encode())
    with suppress(OSError):
        made.update((root / "sys/kernel/notes").read_bytes())
    return made.hexdigest()


def _check(fd: int, owner: int) -> os.stat_result:
    """Raises UntrustedError if another user than the owner may write it."""
    found = os.fstat(fd)
    if found.st_uid != owner:
        raise UntrustedError(0, f"it belongs to uid {found.st_uid}, not to root")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedError(0, "others than root may write it")
    return found


class KeptPrograms:
    """A directory of kept programs. A missing one is empty."""

    def __init__(self, path: str, owner: int = _ROOT) -> None:
        self._path = path
        self._owner = owner

    def find(self, wanted: str) -> Compiled | None:
        """What is kept under a key. What cannot be used is logged, once each."""
        with self._opened() as directory:
            if directory is None:
                return None
            # Mostly the file has the name of its key. One that was brought may have any.
            names = sorted(
                _names(directory)[:_MOST_NAMES], key=lambda name: name != wanted + SUFFIX
            )
            for name in names:
                try:
                    found = decode(self._read(directory, name), wanted)
                except FileNotFoundError:
                    # Another daemon has just removed the oldest.
                    continue
                except (OSError, ValueError, KeyError, TypeError) as error:
                    why = error.strerror if isinstance(error, OSError) else str(error)
                    self._ignored(f"{self._path}/{name}", why or type(error).__name__)
                    continue
                if found is not None:
                    return found
        return None

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """The directory's descriptor; None where there is none, or none to be trusted."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            self._ignored(self._path, str(error.strerror))
            yield None
            return
        try:
            _check(fd, self._owner)
        except UntrustedError as error:
            self._ignored(self._path, str(error.strerror))
            yield None
        else:
            yield fd
        finally:
            os.close(fd)

    def _read(self, directory: int, name: str) -> bytes:
        """Raises OSError, or ValueError with the reason."""
        # O_NONBLOCK: opening a fifo would wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, dir_fd=directory)
        with os.fdopen(fd, "rb") as file:
            found = _check(fd, self._owner)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is not a regular file")
            if found.st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            return file.read(_MOST_BYTES)

    def _ignored(self, path: str, why: str) -> None:
        logger.warning("kept programs are ignored", extra={"path": path, "why": why})

    def keep(self, wanted: str, compiled: Compiled) -> None:
        """Write a file for a key, where we may; the oldest go when there are too many."""
        if os.geteuid() != self._owner:
            # What a service of its own user wrote, its other processes could have written too.
            return
        try:
            Path(self._path).mkdir(mode=0o755, parents=True, exist_ok=True)
            with self._opened() as directory:
                if directory is not None:
                    _write(directory, wanted + SUFFIX, encode(wanted, compiled))
                    _remove_oldest(directory)
        except OSError as error:
            logger.info(
                "compiled programs are not kept",
                extra={"directory": self._path, "why": error.strerror},
            )


def write(path: Path, data: bytes) -> None:
    """Write a file that others may bring to an equal host. Raises OSError."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _write(directory, path.name, data)
    finally:
        os.close(directory)


def _names(directory: int) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))


def _write(directory: int, name: str, data: bytes) -> None:
    """Write beside it and rename, so that readers see the whole file or none. Raises OSError."""
    # Several machines may share a directory, so the process id would not do.
    beside = f".{name}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(beside, flags, 0o644, dir_fd=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            # Whatever the umask is.
            os.fchmod(fd, 0o644)
            file.write(data)
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(beside, dir_fd=directory)
        raise


def _remove_oldest(directory: int) -> None:
    """Remove the oldest of our files, including what a killed writer has left behind."""
    ages = []
    for name in os.listdir(directory):
        if SUFFIX not in name:
            continue
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            ages.append((status.st_mtime_ns, name))
    for _, name in sorted(ages)[:-MOST_FILES]:
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=directory)
