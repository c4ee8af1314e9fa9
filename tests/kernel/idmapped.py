"""A user namespace with a range of users of its own, and mounts that show it files as its own.

That is what LXC and Incus make for each unprivileged container.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.children import running
from tests.waiting import wait_until

# User 0 of the container is this one of the host.
FIRST, RANGE = 100_000, 65_536

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 1, 4, 0x100000
_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


class UserNamespace:
    """As long as the process that holds it lives."""

    def __init__(self, holder: subprocess.Popen[bytes]) -> None:
        self._path = Path(f"/proc/{holder.pid}/ns/user")
        mine = os.readlink("/proc/self/ns/user")
        wait_until(lambda: os.readlink(self._path) != mine, "there is no user namespace")
        for name in ("uid_map", "gid_map"):
            (self._path.parents[1] / name).write_text(f"0 {FIRST} {RANGE}")

    def as_user(self, user: int) -> Sequence[str]:
        """A prefix that runs a command there, as one of its users."""
        ids = ("--setuid", str(user), "--setgid", str(user))
        return ("nsenter", f"--user={self._path}", *ids, "--")

    def show(self, source: Path, target: Path) -> None:
        """Mount a directory once more: with the users of the namespace in the place of ours."""
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
        tree = _call(_OPEN_TREE, _AT_FDCWD, bytes(source), flags)
        with self._path.open("rb") as namespace:
            wanted = _MountAttributes(_MOUNT_ATTR_IDMAP, 0, 0, namespace.fileno())
            size = ctypes.sizeof(wanted)
            _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size)
        _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, bytes(target), _MOVE_MOUNT_F_EMPTY_PATH)
        os.close(tree)


@contextmanager
def user_namespace() -> Iterator[UserNamespace]:
    with running(["unshare", "--user", "sleep", "infinity"]) as holder:
        yield UserNamespace(holder)
