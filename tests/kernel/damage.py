"""A look into a daemon's maps by its pins, and damage that nothing else would do.

A daemon to be damaged must have its pins at `PINS`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ksmwatch.kernel import bpf_maps, libbpf
from ksmwatch.probes.map_records import Movement
from tests.kernel.daemon import Daemon
from tests.kernel.intruder import close_in

PINS = Path("/sys/fs/bpf/ksmwatch-repair")
FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
# struct account: the id, one 64-bit total for each kind of movement, doubts, the start, the tgid.
MERGED = 8
UNMAPPED = MERGED + Movement.UNMAPPED * 8
DOUBTS = MERGED + len(Movement) * 8
TGID = DOUBTS + 2 * 8


def _map(pins: Path, name: str) -> bpf_maps.Map:
    """A map of a daemon, by its pin; open until this process ends."""
    fd = libbpf.obj_get(str(pins / f"map-{name}"))
    return bpf_maps.Map(fd, 8, bpf_maps.value_size(fd))


def _account(pins: Path, pid: int) -> tuple[bytes, bytes]:
    """Address of the mm and account of a process."""
    tgid = struct.pack("<I", pid)
    accounts = _map(pins, "accounts")
    keys, values = accounts.dump()
    size = accounts.value_size
    (at,) = (
        at
        for at in range(len(keys) // 8)
        if values[at * size + TGID : at * size + TGID + 4] == tgid
    )
    return keys[at * 8 : (at + 1) * 8], values[at * size : (at + 1) * size]


def change_account(pid: int, offset: int, pages: int) -> None:
    """Write into the account of a process, as none of our programs would."""
    key, old = _account(PINS, pid)
    value = bytearray(old)
    struct.pack_into("<Q", value, offset, struct.unpack_from("<Q", value, offset)[0] + pages)
    _map(PINS, "accounts").put(key, bytes(value))


def _link_of(fdinfo: Path) -> int | None:
    """The id of a BPF link from its fdinfo; None if it is something else.

    The daemon opens files for a moment to read processes. What has gone since is no link.
    """
    try:
        text = fdinfo.read_text()
    except FileNotFoundError:
        return None
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(lines["link_id"]) if "link_id" in lines else None


def links(daemon: Daemon) -> dict[int, int]:
    """Descriptors of a daemon that hold BPF links, and the ids of these."""
    directory = Path(f"/proc/{daemon.process.pid}/fdinfo")
    found = {int(path.name): _link_of(path) for path in directory.iterdir()}
    return {fd: link for fd, link in found.items() if link is not None}


@contextmanager
def switched_off(switch: Path) -> Iterator[None]:
    """Probes do not run in this block."""
    switch.write_text("0")
    try:
        yield
    finally:
        switch.write_text("1")


def pins_of(program: str) -> list[Path]:
    """The pin of a BPF program's link; none while the program is not attached."""
    return [path for path in PINS.iterdir() if path.name == f"link-{program}"]


def take_off(daemon: Daemon, program: str) -> None:
    """Detach a probe behind the daemon's back: its pin, and the daemon's own descriptor."""
    (pin,) = pins_of(program)
    fd = libbpf.obj_get(str(pin))
    wanted = _link_of(Path(f"/proc/self/fdinfo/{fd}"))
    os.close(fd)
    pin.unlink()
    (theirs,) = (each for each, link in links(daemon).items() if link == wanted)
    close_in(daemon.process.pid, theirs)


def in_doubt(pins: Path, pid: int) -> bool:
    """Whether a process's count is in doubt, by the maps alone: a request would settle it."""
    mm, account = _account(pins, pid)
    baseline = _map(pins, "baselines").get(mm)
    (doubts,) = struct.unpack_from("<Q", account, DOUBTS)
    # struct baseline: the id of the account, mappings, doubts that a read has settled.
    settled = struct.unpack_from("<QqQ", baseline) if baseline else (0, 0, 0)
    (number,) = struct.unpack_from("<Q", account)
    return bool(doubts != (settled[2] if settled[0] == number else 0))
