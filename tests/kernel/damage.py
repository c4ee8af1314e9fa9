"""A look into a daemon's maps by its pins, and damage that nothing else would do.

A daemon to be damaged must have its pins at `PINS`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ksmwatch.kernel import bpf_maps, libbpf
from ksmwatch.probes.map_records import Movement
from tests.kernel.daemon import Daemon
from tests.kernel.intruder import close_in

PINS = Path("/sys/fs/bpf/ksmwatch-repair")
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


def link_id(fdinfo: str) -> int | None:
    """The id of a BPF link from its fdinfo."""
    lines = dict(line.split(":", 1) for line in fdinfo.splitlines() if ":" in line)
    return int(lines["link_id"]) if "link_id" in lines else None


def take_off(daemon: Daemon, event: str) -> None:
    """Detach a probe behind the daemon's back: its pin, and the daemon's own descriptor."""
    (pin,) = (
        path for path in PINS.iterdir() if path.name.startswith("link-") and event in path.name
    )
    fd = libbpf.obj_get(str(pin))
    wanted = link_id(Path(f"/proc/self/fdinfo/{fd}").read_text())
    os.close(fd)
    pin.unlink()
    directory = Path(f"/proc/{daemon.process.pid}/fdinfo")
    (theirs,) = (p for p in directory.iterdir() if link_id(p.read_text()) == wanted)
    close_in(daemon.process.pid, int(theirs.name))


def in_doubt(pins: Path, pid: int) -> bool:
    """Whether a process's count is in doubt, by the maps alone: a request would settle it."""
    mm, account = _account(pins, pid)
    baseline = _map(pins, "baselines").get(mm)
    (doubts,) = struct.unpack_from("<Q", account, DOUBTS)
    # struct baseline: the id of the account, mappings, doubts that a read has settled.
    settled = struct.unpack_from("<QqQ", baseline) if baseline else (0, 0, 0)
    (number,) = struct.unpack_from("<Q", account)
    return bool(doubts != (settled[2] if settled[0] == number else 0))
