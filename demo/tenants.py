"""Invented tenants: processes that hold memory with the same contents and obey commands."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import signal
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from demo.children import DemoError

_REPLY_SECONDS = 60

# The memory of a tenant: the name of the contents, and pages of it. Pages of one name and
# number are equal everywhere. The sizes are prime, so that no sum comes out by accident.
Layout = Mapping[str, int]
LAYOUTS: dict[str, Layout] = {
    "web-a": {"system": 499, "cache": 307, "own of web-a": 53},
    "web-b": {"system": 499, "cache": 307, "own of web-b": 53},
    "db": {"system": 499, "tables": 401, "own of db": 53},
    "batch": {"system": 499, "tables": 211, "own of batch": 53},
}
# Forked in the course of the demo, by db.
DUMP = "db-dump"


def expected_merged(layouts: Mapping[str, Layout]) -> dict[str, int]:
    """Pages of each tenant whose contents another has too: what ksmd will merge."""
    owners = Counter(
        (part, page)
        for layout in layouts.values()
        for part, pages in layout.items()
        for page in range(pages)
    )
    return {
        name: sum(owners[part, page] > 1 for part, pages in layout.items() for page in range(pages))
        for name, layout in layouts.items()
    }


def contents(part: str, page: int) -> bytes:
    """One page, which names itself all over."""
    word = hashlib.blake2b(f"{part}/{page}".encode(), digest_size=64).digest()
    return word * (mmap.PAGESIZE // len(word))


class _Memory:
    """The memory of a tenant, one mapping for each part."""

    def __init__(self, layout: Layout) -> None:
        self._parts = {part: self._make(part, pages) for part, pages in layout.items()}

    @staticmethod
    def _make(part: str, pages: int) -> mmap.mmap:
        area = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A kernel without huge pages refuses this; it is not needed there.
        with contextlib.suppress(OSError):
            area.madvise(mmap.MADV_NOHUGEPAGE)
        area.write(b"".join(contents(part, page) for page in range(pages)))
        area.madvise(mmap.MADV_MERGEABLE)
        return area

    def write(self, part: str, pages: int, word: bytes) -> None:
        """Write into this many pages, so that they equal no other page."""
        for page in range(pages):
            at = page * mmap.PAGESIZE
            self._parts[part][at : at + len(word)] = word

    def unmap(self, part: str) -> None:
        """Give a part back to the kernel."""
        self._parts.pop(part).close()


class _Servant:
    """The life of a tenant, in its own process: commands come in, a number goes out."""

    def __init__(self, name: str, places: Mapping[str, socket.socket]) -> None:
        self._places = places
        self._become(name)

    def _become(self, name: str) -> None:
        self._name = name
        Path("/proc/self/comm").write_text(name)

    def live(self, layout: Layout) -> None:
        """Obey until the other end of the socket closes, be it because its process was killed."""
        # Ctrl-C is for the director; ended children are not collected by anyone.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        self._memory = _Memory(layout)
        self._reply(0)
        while command := self._places[self._name].recv(4096).decode():
            self._obey(command.split("|"))

    def _reply(self, number: int) -> None:
        self._places[self._name].sendall(str(number).encode())

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["write", part, pages]:
                self._memory.write(part, int(pages), self._name.encode())
                self._reply(0)
            case ["unmap", part]:
                self._memory.unmap(part)
                self._reply(0)
            case ["fork", name]:
                pid = os.fork()
                if pid:
                    self._reply(pid)
                else:
                    self._become(name)


class Tenant:
    """The director's end of one tenant. `pid` is 0 until it is born."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self.pid = 0
        self._sock = sock
        sock.settimeout(_REPLY_SECONDS)

    def tell(self, *words: str | int) -> int:
        """Have something done; returns when it is done."""
        self._sock.sendall("|".join(map(str, words)).encode())
        return self.reply()

    def reply(self) -> int:
        """The number that says that the tenant is done."""
        try:
            return int(self._sock.recv(64))
        except (OSError, ValueError) as error:
            raise DemoError(f"The tenant {self.name} does not answer: {error}.") from error

    def kill(self) -> None:
        """Kill -9, and return when the memory is gone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def let_go(self) -> None:
        """Close the socket, which ends the tenant."""
        self._sock.close()


class Tenants:
    """All tenants, in the order in which they are shown."""

    def __init__(self) -> None:
        names = (*LAYOUTS, DUMP)
        pairs = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for name in names}
        self._ours = {name: pair[0] for name, pair in pairs.items()}
        self._theirs = {name: pair[1] for name, pair in pairs.items()}
        self.all = {name: Tenant(name, sock) for name, sock in self._ours.items()}
        self._dead: set[str] = set()

    def start(self) -> None:
        """Fork them and wait until each has its memory."""
        for name in LAYOUTS:
            self.all[name].pid = self._fork(name)
        for sock in self._theirs.values():
            sock.close()
        for name in LAYOUTS:
            self.all[name].reply()

    def _fork(self, name: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            # With a copy of our ends a tenant would keep the others alive after us.
            for sock in self._ours.values():
                sock.close()
            for other in set(LAYOUTS) - {name}:
                self._theirs[other].close()
            _Servant(name, self._theirs).live(LAYOUTS[name])
            status = 0
        finally:
            os._exit(status)

    def fork_dump(self) -> None:
        """Let db fork its helper."""
        self.all[DUMP].pid = self.all["db"].tell("fork", DUMP)

    def kill(self, name: str) -> None:
        """End one with kill -9."""
        self.all[name].kill()
        self._dead.add(name)

    def alive(self, name: str) -> bool:
        """Whether it was born and has not been killed."""
        return self.all[name].pid != 0 and name not in self._dead

    def end(self) -> None:
        """End all of them, and return when their memory is gone."""
        for tenant in self.all.values():
            tenant.let_go()
        for name in LAYOUTS:
            if self.alive(name):
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    self.kill(name)
