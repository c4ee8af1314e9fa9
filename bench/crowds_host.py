"""On this machine itself: what a snapshot and a scrape take of a real core.

`python -m bench.crowds_host PROCESSES MERGING OWNERS` makes processes, and BPF maps with an
account of each that is said to merge, as the programs would have written them; no program is
loaded, so KSM need not be on. The processes are divided among invented owners. Everything
after that is the daemon's own code: maps, counts, names by /proc, snapshot, JSON, samples, the
channel to the front, text, gzip. Prints one line of JSON with CPU milliseconds. Needs root.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.crowd import pss_bytes
from ksmwatch.commands.run import GC_OBJECTS
from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.exact_read import Readers
from ksmwatch.counting.ledger import NANOSECONDS_PER_TICK
from ksmwatch.counting.live_backend import Live
from ksmwatch.export import front_channel
from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.front_channel import Answer, SampleReceiver, SampleSender
from ksmwatch.export.fronts import SPECS
from ksmwatch.export.samples import KeptSamples, Series, samples
from ksmwatch.kernel import procfs
from ksmwatch.kernel.page_tables import SmapsReader
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.process_connector import subscribe
from ksmwatch.owners.processes import Identity, ProcessTable
from ksmwatch.probes.attachments import Attachments
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.map_records import Account, Baseline, Movement
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.persistence import Nowhere
from ksmwatch.probes.plan import Wish, choose
from ksmwatch.probes.programs import Programs
from ksmwatch.snapshot.collector import Watcher
from ksmwatch.snapshot.document import to_json
from ksmwatch.snapshot.model import Snapshot
from tests.fakes import recorded

_CROWD = Path(__file__).resolve().parents[1] / "tests/workload/build/crowd"
_PAGES = 4
_ROUNDS = 7
_KERNEL = "6.12"
_TICKS = 100
# Longer than changes may be told late, see ksmwatch/probes/standstill.py.
_PAUSE_SECONDS = 1.1
# For a whole answer in the channel, because here one thread is at both ends.
_ROOM = 1 << 22
_MM = 0xFFFF888000000000


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def empty_maps(kernel: str) -> tuple[Live, Maps]:
    """A backend with maps as a daemon on a test kernel makes them, and without any probe."""
    facts = recorded(kernel)
    plan = choose(facts, Wish.AUTO)
    flags = compile_flags(plan, facts, 65536)
    bare = plan._replace(probes=())
    loaded = Programs(facts, "").load(bare, flags)
    maps = Maps(loaded)
    attachments = Attachments(loaded.programs, Nowhere())
    live = Live(bare, maps, attachments, Readers(SmapsReader()), policy=Policy(0.0))
    # No probe is lacking, and nothing is in doubt.
    assert live.adopt()
    return live, maps


def fill(maps: Maps, number: int, pid: int, pages: int) -> None:
    """What the programs and an exact read have left of one process."""
    account = Account(
        id=number + 1,
        moves=tuple(pages if which is Movement.MERGED else 0 for which in Movement),
        doubts=0,
        start_boottime=procfs.read_start_ticks(Path(f"/proc/{pid}")) * NANOSECONDS_PER_TICK,
        tgid=pid,
        comm=b"crowd",
    )
    mm = _MM + number * 4096
    # In place, as the programs do it: another account would be another place in the map.
    record = maps._account.pack(account._asdict())  # noqa: SLF001
    maps._accounts.put(struct.pack("<Q", mm), record)  # noqa: SLF001
    # The programs tell of it afterwards.
    maps._totals.words[Movement.MERGED] += 1  # noqa: SLF001
    maps.put_baseline(mm, Baseline(account.id, 0, 0))


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


class Dealt(ProcessTable):
    """Processes that are divided among invented owners. Everything else about them is real."""

    def __init__(self, owners: int) -> None:
        super().__init__()
        self._units = [
            Owner(OwnerKind.UNIT, f"tenant-{n}.service", f"/system.slice/tenant-{n}.service")
            for n in range(owners)
        ]

    def _read(self, pid: int) -> Identity | None:
        identity = super()._read(pid)
        owner = self._units[pid % len(self._units)]
        return None if identity is None else replace(identity, owner=owner)


class Host:
    """A watcher of a crowd, and what is made of its snapshots."""

    def __init__(self, pids: list[int], owners: int) -> None:
        gc.set_threshold(GC_OBJECTS)
        self.pids = pids
        self.live, self._maps = empty_maps(_KERNEL)
        self.move(0, 1)
        table = Dealt(owners)
        table.follow(subscribe())
        self._watcher = Watcher(self.live, recorded(_KERNEL), table)
        self.snapshot: Snapshot
        self._owners = KeptSamples()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        self._sender, self._receiver = SampleSender(), SampleReceiver()
        self._exposition = Exposition((*CATALOGUE, *SPECS))
        self.size = 0

    def move(self, step: int, every: int) -> None:
        """Pages come to one in `every` processes."""
        for number in range(0, len(self.pids), every):
            fill(self._maps, number, self.pids[number], _PAGES + step)

    def look(self) -> None:
        self.snapshot = self._watcher.snapshot(2.0)

    def compare(self) -> None:
        """Whether anything has moved since; nothing has."""
        assert not self._watcher.moved_since(self.snapshot)

    def document(self) -> None:
        """What the socket gives."""
        self.look()
        self.size = len(to_json(self.snapshot))

    def scrape(self) -> None:
        """What HTTP gives, compressed, the front's work included."""
        self.look()
        found = samples(self.snapshot, Series(50, processes=False), self._owners)
        self._sender.send(self._ours, Answer(0.0, found))
        answer = self._receiver.whole(front_channel.receive(self._theirs))
        self._exposition.take(answer.samples)
        self.size = len(self._exposition.page("", "gzip").body)

    def tick(self) -> None:
        """What is done every second."""
        self._watcher.tick(Budget(0.1))


def best_of(host: Host, work: Callable[[], object], every: int | None) -> float:
    """CPU milliseconds; before each time pages come to one in `every` processes."""
    if every is None:
        # Requests are seconds apart, so what came before is over.
        for _ in range(2):
            work()
            time.sleep(_PAUSE_SECONDS)
    found = []
    for step in range(_ROUNDS):
        if every is not None:
            host.move(step + 1, every)
        found.append(cpu_ms(work))
    return min(found)


def measure(pids: list[int], others: int, owners: int) -> dict[str, Any]:
    """All that is done for a document and a scrape: the fastest of some times."""
    host = Host(pids, owners)
    first = cpu_ms(host.document)
    found: dict[str, Any] = {
        "processes": len(pids) + others,
        "merging": len(pids),
        "owners": owners,
        "first": first,
    }
    for what, work in (("document", host.document), ("scrape", host.scrape)):
        for name, every in (("still", None), ("some", 100), ("all", 1)):
            found[f"{what} {name}"] = best_of(host, work, every)
        found[f"{what} bytes"] = host.size
    assert host.snapshot.mappings == len(pids) * (_PAGES + _ROUNDS)
    found["tick"] = min(cpu_ms(host.tick) for _ in range(_TICKS))
    found["pss"] = pss_bytes([os.getpid()])
    found["map_bytes"] = host.live.map_state().memory
    return found


@contextmanager
def crowd(processes: int, merging: int) -> Iterator[subprocess.Popen[str]]:
    """So many processes, until the end of the block."""
    with subprocess.Popen(
        [_CROWD, str(processes), str(merging), str(_PAGES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


def main(argv: list[str]) -> int:
    processes, merging, owners = map(int, argv)
    with crowd(processes, merging) as process:
        found = measure(children(process.pid)[:merging], processes - merging, owners)
        print("sample", json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
