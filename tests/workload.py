"""Processes that do to their memory what a test tells them: the other end of ksmload."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.children import Ending
from tests.slowness import patience

_ANSWER_SECONDS = 240


def built(name: str) -> Path:
    """A program of tests/workload, for the machine that this runs on."""
    build = Path(__file__).with_name("workload") / "build"
    for path in (build / os.uname().machine / name, build / name):
        if path.exists():
            return path
    raise FileNotFoundError(f"{build / name} is missing; `make workload` builds it")


class RefusedError(OSError):
    """A tenant answered with an error."""


class Tenant:
    """One process. Numbers of pages and first pages count from the beginning of a region."""

    def __init__(self, load: Workload, connection: socket.socket, name: str, pid: int) -> None:
        self._load = load
        self._connection = connection
        self._pidfd = os.pidfd_open(pid)
        self.name = name
        self.pid = pid

    def tell(self, *words: object) -> int:
        """One command; returns when it has been done, with the value of the answer."""
        self._send(*words)
        answer = self._connection.recv(256).decode().strip()
        if not answer.startswith("ok "):
            raise RefusedError(f"{self.name}: {' '.join(map(str, words))}: {answer or 'it ended'}")
        return int(answer.removeprefix("ok "))

    def _send(self, *words: object) -> None:
        self._connection.send(" ".join(map(str, words)).encode())

    def map(self, region: str, pages: int, *, shared: bool = False) -> None:
        """A new anonymous region."""
        self.tell("map", region, pages, "shared" if shared else "private")

    def fill(self, region: str, first: int, pages: int, *, seed: int, modulo: int = 1) -> None:
        """Page i gets the content (seed, i % modulo); modulo 0: (seed, i)."""
        self.tell("fill", region, first, pages, seed, modulo)

    def offer(self, region: str, pages: int, *, seed: int, modulo: int = 1) -> None:
        """Map a region, fill it, and offer it to KSM."""
        self.map(region, pages)
        self.fill(region, 0, pages, seed=seed, modulo=modulo)
        self.madvise(region, 0, pages, "mergeable")

    def write(self, region: str, first: int, pages: int) -> None:
        """Contents that no other page has."""
        self.tell("write", region, first, pages)

    def madvise(self, region: str, first: int, pages: int, advice: str) -> None:
        """Advise, by the name of the advice in lower case."""
        self.tell("madvise", region, first, pages, advice)

    def munmap(self, region: str, first: int, pages: int) -> None:
        """Unmap; the region keeps its name and numbering."""
        self.tell("munmap", region, first, pages)

    def mremap(self, region: str, first: int, pages: int, new: int) -> None:
        """Change the size, in place where there is room."""
        self.tell("mremap", region, first, pages, new)

    def move(self, region: str, first: int, pages: int) -> None:
        """Move to another address."""
        self.tell("move", region, first, pages)

    def address(self, region: str) -> int:
        """Where the region begins."""
        return self.tell("addr", region)

    def fork(self, name: str) -> Tenant:
        """A child with copies of everything."""
        return self._load.accept(name, self.tell("fork", name))

    def clone_vm(self, name: str) -> Tenant:
        """A child process that shares the address space."""
        return self._load.accept(name, self.tell("clonevm", name))

    def vfork_exec(self, name: str) -> Tenant:
        """A child that had no copy of anything."""
        return self._load.accept(name, self.tell("vforkexec", name))

    def exec(self) -> Tenant:
        """The same process with nothing in memory. Use what is returned from then on."""
        self._send("exec", self.name)
        fresh = self._load.accept(self.name, self.pid)
        self._load.replaced(self)
        return fresh

    def exit(self) -> None:
        """End by itself; returns when the address space has gone."""
        self._send("exit")
        self.wait()

    def kill(self) -> None:
        """SIGKILL; returns when the process has ended and its address space has gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Returns when the process has ended: a pidfd is readable after exit_mm()."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(patience(_ANSWER_SECONDS) * 1000):
            raise TimeoutError(f"{self.name} does not end")
        self.close()
        self._load.gone(self)

    def close(self) -> None:
        """Let go of the connection, by which the process ends, and of the descriptor."""
        self._connection.close()
        os.close(self._pidfd)


class Workload(Ending):
    """All tenants of a test. They end with it."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ksmload-")
        self.path = f"{self._directory.name}/socket"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        # For tenants of other users.
        Path(self._directory.name).chmod(0o711)
        Path(self.path).chmod(0o777)
        self._listener.listen(64)
        self._listener.settimeout(patience(_ANSWER_SECONDS))
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._tenants: list[Tenant] = []

    def end(self) -> None:
        for tenant in list(self._tenants):
            tenant.kill()
        self._listener.close()
        self._directory.cleanup()

    def spawn(self, name: str, prefix: Sequence[str] = (), program: Path | None = None) -> Tenant:
        """A new process that has nothing; `prefix`: what becomes it, as `unshare` does.

        `program`: a copy of ksmload.
        """
        child = subprocess.Popen(
            [*prefix, program or built("ksmload"), self.path, name], stdin=subprocess.DEVNULL
        )
        self._children[child.pid] = child
        return self.accept(name, child.pid)

    def take(self, name: str) -> Tenant:
        """Take the connection of a process that somebody else starts, perhaps in a namespace."""
        connection, _ = self._listener.accept()
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        assert connection.recv(256).decode().rpartition(" ")[0] == name
        return self._tenant(connection, name, struct.unpack("3i", credentials)[0])

    def accept(self, name: str, pid: int) -> Tenant:
        """Take the connection of a process that was just made."""
        connection, _ = self._listener.accept()
        hello = connection.recv(256).decode().rpartition(" ")
        assert (hello[0], int(hello[2])) == (name, pid), f"{hello} is not {name} {pid}"
        return self._tenant(connection, name, pid)

    def _tenant(self, connection: socket.socket, name: str, pid: int) -> Tenant:
        connection.settimeout(patience(_ANSWER_SECONDS))
        tenant = Tenant(self, connection, name, pid)
        self._tenants.append(tenant)
        return tenant

    def replaced(self, tenant: Tenant) -> None:
        """Forget the connection of a process that has another one now."""
        self._tenants.remove(tenant)
        tenant.close()

    def gone(self, tenant: Tenant) -> None:
        """Forget a process that has ended; collect it if it is our own child."""
        self._tenants.remove(tenant)
        child = self._children.pop(tenant.pid, None)
        if child is not None:
            child.wait()


def mergeable(load: Workload, name: str, pages: int) -> Tenant:
    """A new process of which all pages merge, into seven."""
    tenant = load.spawn(name)
    tenant.offer("heap", pages, seed=2, modulo=7)
    return tenant
