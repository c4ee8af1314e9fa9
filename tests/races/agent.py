"""Inside the guest: the daemon, the tenants and the truth, by commands of one line of JSON.

Each command is obeyed in a thread of its own, as what it does may be held somewhere in the kernel
while others go on. The first CPU is for all that nobody holds; actors have the others.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.btf import Btf
from tests import oracle
from tests.fuzz import swap
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.kernel.damage import links
from tests.kernel.intruder import close_in
from tests.ksmctl import Ksm
from tests.nodes import move_pages
from tests.workload import Tenant, Workload

HOME = 0
_PINS = "/sys/fs/bpf/ksmwatch-races"


def _process(comm: str) -> int:
    """The process of this name; there is one."""
    (pid,) = (
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/comm")
        if path.read_text().strip() == comm
    )
    return pid


def _pin(pid: int, cpu: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {cpu})


class Agent:
    """What it can be told is each method without an underscore."""

    def __init__(self) -> None:
        self._load = Workload()
        self._tenants: dict[str, Tenant] = {}
        self._daemon: Daemon | None = None
        self._ksm = Ksm()
        self._whole = contextlib.ExitStack()
        # Processes in another one's address space, and whose it is: a count is listed once, for
        # its owner.
        self._guests: dict[int, int] = {}
        # A program of ours, and its link.
        self._attached: list[int] = []

    # ---- the machine ----

    def symbols(self, names: list[str]) -> dict[str, list[tuple[str, int, int]]]:
        """Functions of these names, and their parts (name.part.0): name, begin, end."""
        lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
        code = sorted((int(each[0], 16), each[2]) for each in lines if each[1] in "tTwW")
        begins = sorted({address for address, _ in code})
        ends = dict(itertools.pairwise(begins))
        wanted = set(names)
        found: dict[str, list[tuple[str, int, int]]] = {}
        for address, symbol in code:
            # Programs are bpf_prog_<tag>_<name>.
            name = re.sub(r"^bpf_prog_[0-9a-f]+_", "bpf:", symbol.split(".")[0])
            if name in wanted and address in ends:
                found.setdefault(name, []).append((symbol, address, ends[address]))
        return found

    def pin(self, comm: str, cpu: int) -> None:
        """Keep a process of this name on a CPU."""
        _pin(_process(comm), cpu)

    def begin(self) -> None:
        """KSM in a known state, and swap space."""
        self._whole.enter_context(swap.ready())
        self._whole.enter_context(self._ksm)

    def count(self, checkout: str, cpu: int, pinned: bool) -> None:  # noqa: FBT001 - from JSON
        """Start the daemon of a checkout on a CPU. `pinned`: its hooks stay when it is killed."""
        # Neither from the current directory nor by PYTHONPATH may it, or what it starts, import
        # another checkout's code.
        prefix = ("env", "--chdir=/", "--unset=PYTHONPATH", f"{checkout}/.venv/bin/python", "-m")
        there = ("taskset", "--cpu-list", str(cpu), *prefix)
        pins = [f"--state.pin-path={_PINS}"] if pinned else []
        self._daemon = Daemon("--audit.cpu-percent=0", *pins, prefix=there, http=False)
        self._daemon.wait_until_ready()
        mode = self._daemon.snapshot()["mode"]
        assert mode == "bpf", f"it counts by {mode}:\n{self.log()}"

    def stop_counting(self) -> None:
        """Stop the daemon, which detaches its hooks."""
        assert self._daemon is not None
        status = self._daemon.stop()
        assert status == 0, f"it ended with {status}:\n{self.log()}"

    def kill_daemon(self) -> None:
        """By SIGKILL; returns when it has ended."""
        assert self._daemon is not None
        self._daemon.process.kill()
        self._daemon.process.wait()

    def take_off(self) -> None:
        """Detach one of the daemon's probes behind its back."""
        assert self._daemon is not None
        close_in(self._daemon.process.pid, min(links(self._daemon)))

    def send_signal(self, name: str) -> None:
        assert self._daemon is not None
        self._daemon.process.send_signal(signal.Signals[name])

    def ksm(self, name: str, value: int) -> None:
        """Set a file of /sys/kernel/mm/ksm."""
        self._ksm.write(name, value)

    def write(self, path: str, text: str) -> None:
        """Write to a file of /proc or /sys."""
        Path(path).write_text(text)

    def attach_at_return(self, function: str) -> None:
        """A program that does nothing, where a function of the kernel returns."""
        with Btf() as btf:
            known = btf.function(function)
        assert known is not None, f"BTF lacks {function}"
        program = libbpf.prog_load(
            "idle",
            libbpf.PROG_TYPE_TRACING,
            libbpf.assemble((0xB7, 0x00, 0, 0), (0x95, 0x00, 0, 0)),  # r0 = 0; exit
            attach_type=libbpf.TRACE_FEXIT,
            function=known,
        )
        self._attached = [program, libbpf.raw_tracepoint_open(program)]

    def detach(self) -> None:
        """That program."""
        while self._attached:
            os.close(self._attached.pop())

    def migrate(self, name: str, page: int, node: int, cpu: int) -> None:
        """Move a page of a tenant's heap to a node of memory, on a CPU.

        All who map it lose it meanwhile. Other pages of the tenant, such as those of the C library,
        may be those of everybody, who would wait.
        """
        os.sched_setaffinity(0, {cpu})
        tenant = self._tenants[name]
        move_pages(tenant.pid, [tenant.address("heap") + page * oracle.PAGE], node)

    def merge_all(self) -> None:
        """Let ksmd merge what can be merged, and stop."""
        self._ksm.merge_all()

    # ---- tenants ----

    def spawn(self, name: str, cpu: int) -> int:
        """A new process; its pid."""
        return self._keep(self._load.spawn(name), cpu)

    def tell(self, name: str, words: list[Any]) -> int:
        """One command of tests/workload/ksmload."""
        return self._tenants[name].tell(*words)

    def fork(self, name: str, child: str, cpu: int) -> int:
        """A child; its pid."""
        return self._keep(self._tenants[name].fork(child), cpu)

    def clone_vm(self, name: str, child: str, cpu: int) -> int:
        """Another process in the same address space; its pid."""
        pid = self._keep(self._tenants[name].clone_vm(child), cpu)
        self._guests[pid] = self._tenants[name].pid
        return pid

    def exec(self, name: str) -> None:
        """The same process with nothing in memory. What it had passes to its guest."""
        fresh = self._tenants[name].exec()
        self._tenants[name] = fresh
        self._guests = {pid: owner for pid, owner in self._guests.items() if owner != fresh.pid}

    def kill(self, name: str) -> None:
        """The end of a tenant, by SIGKILL."""
        self._tenants.pop(name).kill()

    def has(self, name: str) -> bool:
        """Whether there is such a tenant."""
        return name in self._tenants

    def kill_others(self, kept: list[str]) -> None:
        """The end of all tenants but these."""
        for name in self._tenants.keys() - set(kept):
            self.kill(name)

    def _keep(self, tenant: Tenant, cpu: int) -> int:
        os.sched_setaffinity(tenant.pid, {cpu})
        self._tenants[tenant.name] = tenant
        return tenant.pid

    # ---- counts ----

    def snapshot(self) -> dict[str, Any]:
        """The daemon's snapshot, as far as it is compared."""
        assert self._daemon is not None
        return _compared(self._daemon.snapshot())

    def compare(self, when: str) -> dict[str, Any]:
        """Snapshots beside the page tables, while nothing moves; the last one settled."""
        assert self._daemon is not None
        snapshots = [_compared(self._daemon.snapshot()) for _ in range(2)]
        if when == "settled":
            snapshots.append(_compared(settled_snapshot(self._daemon)))
        truth = [each for each in oracle.host().items() if each[0] not in self._guests]
        return {"snapshots": snapshots, "truth": truth}

    def areas_before(self, name: str, region: str) -> int:
        """How many areas of a tenant lie below a region of its."""
        tenant = self._tenants[name]
        begin = tenant.address(region)
        return sum(area.end <= begin for area in oracle.areas(tenant.pid))

    def log(self) -> str:
        """What the daemon has logged."""
        assert self._daemon is not None
        return self._daemon.log_path.read_text()


def _compared(document: dict[str, Any]) -> dict[str, Any]:
    exact = [(p["pid"], p["mappings"]) for p in document["processes"] if p["confidence"] == "exact"]
    return {
        "listed": [p["pid"] for p in document["processes"]],
        "exact": exact,
        "host": document["host"]["confidence"],
        "reason": document["host"]["reason"],
        "asleep": document["asleep"],
        "adopted": document["map"]["adopted"],
        "events": document["host"].get("events"),
        "mms miscounted": document["totals"].get("miscounted_mms", 0),
        "pages drifted": document["audit"]["surplus"] + document["audit"]["missing"],
        "missed": {p["event"]: p["missed"] for p in document["probes"] if p["missed"]},
        "losses": {name: number for name, number in document["losses"].items() if number},
    }


def _obey(agent: Agent, out: Callable[[dict[str, Any]], None], command: dict[str, Any]) -> None:
    try:
        result = getattr(agent, command["do"])(*command["with"])
        out({"id": command["id"], "ok": result})
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side must know
        out({"id": command["id"], "error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Obey until the commands end."""
    os.sched_setaffinity(0, {HOME})
    writing = threading.Lock()

    def out(answer: dict[str, Any]) -> None:
        with writing:
            print(json.dumps(answer), flush=True)

    agent = Agent()
    out({"id": 0, "ok": "ready"})
    for line in sys.stdin:
        threading.Thread(target=_obey, args=(agent, out, json.loads(line)), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
