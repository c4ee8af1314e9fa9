"""Inside a test kernel whose clock counts instructions: starts, of daemons and of commands."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.crowd import Crowd, cpu_seconds, family, lasting_family, resident_once
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.plan import Wish, choose
from ksmwatch.probes.programs import Programs
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm

# A host has the group of the package. To look for one that is missing loads libnss_systemd, 0.3 MB.
OPTIONS = ("--backend=bpf", "--socket-group=root")
_START_PROCESSES = 500
_SETTLE_SECONDS = 120
_ACCOUNTS = 65536
_QUICK = {"pages_to_scan": 20_000, "sleep_millisecs": 1}
_PINS = Path("/run/bench-bpf")
_PROGRAMS = "/run/bench-programs"
_ROUNDS = 3

# Shorter than the pause between two ticks of the daemon: in some, none of its processes works.
_PAUSE_SECONDS = 0.1

# A name, and what was measured.
Report = Callable[..., None]


def starts(*, keeps_programs: bool) -> dict[str, tuple[str, ...]]:
    """Kinds of a start, in this order, and the options of each."""
    pinned = f"--state.pin-path={_PINS}/ksmwatch"
    if not keeps_programs:
        return {"compiled": (pinned,), "adopted": (pinned,)}
    kept = f"--state.programs-path={_PROGRAMS}"
    return {
        "compiled": ("--state.programs-path=",),
        "kept": (kept, pinned),
        "adopted": (kept, pinned),
    }


def _ready(daemon: Daemon, before: float) -> dict[str, float]:
    """Seconds until the first snapshot, and CPU seconds, its children included, by then.

    `cpu` also has what its other process still does to be ready.
    """
    daemon.wait_until_ready()
    wall = time.monotonic() - before
    ready = _used(daemon)
    used = 0.0
    while used < (used := _used(daemon)):
        time.sleep(_PAUSE_SECONDS)
    return {"wall": wall, "ready": ready, "cpu": used}


def _used(daemon: Daemon) -> float:
    """CPU seconds of the daemon's processes so far, those that have ended included."""
    # Of the compiler, which has ended, it has been told by wait4().
    words = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, words[13:15])) / os.sysconf("SC_CLK_TCK")
    return cpu_seconds(family(daemon.process.pid)) + ticks


def measure_starts(report: Report, program: str, *, keeps_programs: bool) -> None:
    """From exec to the first exact snapshot: without anything, and with what a daemon has left."""
    kinds = starts(keeps_programs=keeps_programs)
    # A host has the files in its page cache; here they would come slowly over 9p.
    warm = (f"--state.programs-path={_PROGRAMS}",) if keeps_programs else ()
    with Daemon(*OPTIONS, *warm, program=program) as warming:
        warming.wait_until_ready()
    # As the kernel tests do: nothing that outlives a daemon may stand in a temporary directory.
    _PINS.mkdir()
    subprocess.run(["mount", "-t", "bpf", "none", str(_PINS)], check=True)
    with (
        Ksm(**_QUICK) as ksm,
        Crowd(_START_PROCESSES, _START_PROCESSES // 10, 10, ksm=ksm, fork=False),
    ):
        for kind, options in kinds.items():
            before = time.monotonic()
            daemon = Daemon(*OPTIONS, *options, program=program)
            numbers = _ready(daemon, before)
            document = settled_snapshot(daemon, seconds=_SETTLE_SECONDS)
            assert document["host"]["confidence"] == "exact", document["host"]
            assert document["map"]["adopted"] is (kind == "adopted")
            memory = resident_once(lasting_family(daemon.process.pid))
            report(f"start {kind}", **numbers, memory=memory)
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait()
            # Its front ends when it sees that.
            time.sleep(1)
    subprocess.run(["umount", str(_PINS)], check=True)
    _PINS.rmdir()


def _of_children(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_commands(report: Report, program: str) -> None:
    """What commands use that a user waits for, beside a daemon."""
    with Daemon(*OPTIONS, program=program) as daemon:
        for name, *words in (("--help",), ("snapshot", "--socket", str(daemon.socket))):
            found = [_of_children([program, name, *words]) for _ in range(_ROUNDS)]
            report(f"command {name}", cpu=min(found))


def measure_programs(report: Report) -> None:
    """Programs and maps into the kernel: by the compiler, and from the file that keeps them."""
    facts = read_facts()
    plan = choose(facts, Wish.AUTO)
    flags = compile_flags(plan, facts, _ACCOUNTS)
    place = f"{_PROGRAMS}-alone"
    # The first time, the compiler's files come slowly over 9p.
    for name, path in (("first", place), ("compiled", ""), ("kept", place)):
        before = [resource.getrusage(who) for who in _WHO]
        Programs(facts, path).load(plan, flags)
        after = [resource.getrusage(who) for who in _WHO]
        both = zip(before, after, strict=True)
        cpu = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in both)
        report(f"programs {name}", cpu=cpu)


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
