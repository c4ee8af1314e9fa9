"""A guest under the debugger: its CPUs by the gdbstub, its processes by the agent in it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.children import Ending
from tests.guests import SLOW
from tests.races import places
from tests.races.code import Instruction, NoPlaceError, Place, Symbol, disassemble
from tests.races.gdb import Gdb
from tests.slowness import patience
from tests.waiting import Deadline

ROOT = Path(__file__).resolve().parents[2]
CPUS = 4
START_SECONDS = 600
# For one step of a scenario. A parked CPU takes its share of the host's one thread.
STEP_SECONDS = 240
_GLANCE_SECONDS = 5
_GUEST_SECONDS = 3600
# A function that no test calls, and long enough. Its code becomes the place to park at.
_UNUSED = "snapshot_ioctl"
_SLOT_BYTES = 16
# Interrupts come, and some of them would print a complaint about a CPU that stands.
APPEND = (
    *("irqaffinity=0", "nowatchdog", "rcupdate.rcu_cpu_stall_suppress=1", "nokaslr"),
    # User space would hide the kernel's text from the stub.
    "nopti",
    # Only who is told to moves pages to another node. Otherwise a fault of the agent may be held.
    "numa_balancing=disable",
    # So that a CPU that is held between locks keeps nobody waiting for a grace period of RCU.
    "preempt=full",
)


class StuckError(AssertionError):
    """What the scenario says did not happen."""


@dataclass
class Watch:
    """A CPU is to stop at one of these addresses, having passed it so often before."""

    addresses: set[int]
    passes: int = 0


@dataclass(frozen=True)
class Hold:
    """Where a CPU is parked, and where it goes on."""

    slot: int
    origin: int


# pause; jump back to it. The pause hands the host's thread to the next CPU.
_PARK = b"\xf3\x90\xeb\xfc"
_PAUSE, _LEAVE = len(b"\xf3\x90"), b"\xeb\x00"


def parking(slot: int, origin: int) -> bytes:
    """A loop, and behind it a jump to where the CPU came from."""
    distance = origin - (slot + len(_PARK) + 5)
    return _PARK + b"\xe9" + distance.to_bytes(4, "little", signed=True)


class Guest(Ending):
    """One guest, in which CPUs can be held."""

    def __init__(
        self, kernel: str, daemon: Path = ROOT, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """`daemon` is the checkout of the daemon, and `tell` is told of each step."""
        self.daemon = daemon
        self._directory = tempfile.mkdtemp(prefix="ksmwatch-races-")
        path = Path(self._directory) / "gdb"
        self._process = subprocess.Popen(
            [
                *(ROOT / "tests/vm/run", "--kernel", kernel, "--cpus", str(CPUS), "--gdb", path),
                *("--slow", os.environ.get(SLOW, "1")),
                *("--memory", "2G", "--nodes", "2", "--timeout", str(_GUEST_SECONDS)),
                *(word for each in APPEND for word in ("--append", each)),
                *("--env", f"PYTHONPATH={ROOT}"),
                *("--", sys.executable, "-m", "tests.races.agent"),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._tell = tell
        self._received = b""
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._gdb: Gdb | None = None
        self._symbols: dict[str, list[Symbol]] = {}
        self._places: dict[str, set[int]] = {}
        self._watches: dict[int, Watch] = {}
        self._breakpoints: set[int] = set()
        self._holds: dict[int, Hold] = {}
        self._slots: list[int] = []
        try:
            self._connect(path)
        except BaseException:
            self.end()
            raise

    def _connect(self, path: Path) -> None:
        """Wait until the agent is there, and take control of the CPUs."""
        self.wait(0, START_SECONDS)
        self._gdb = Gdb(path)
        self._gdb.run()
        # Code of programs has names too.
        self.ask("write", "/proc/sys/net/core/bpf_jit_kallsyms", "1")
        self.learn({_UNUSED, *places.names()})
        unused = self._symbols[_UNUSED][0]
        self._slots = list(range(unused.address, unused.end - _SLOT_BYTES, _SLOT_BYTES))

    def end(self) -> None:
        """Switch it off."""
        self._process.terminate()
        self._process.wait()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._directory)

    # ---- the agent ----

    def send(self, command: str, *words: Any) -> int:
        """Tell the agent; the number of the answer to come."""
        assert self._process.stdin is not None
        self._tell(f"{command} {' '.join(map(str, words))}")
        self._asked += 1
        line = json.dumps({"id": self._asked, "do": command, "with": words})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return self._asked

    def answered(self, number: int) -> bool:
        """Whether the answer has come."""
        return number in self._answers

    def wait(self, number: int, seconds: float = STEP_SECONDS) -> Any:
        """The answer, when it has come."""
        self.until(lambda: number in self._answers, "the agent has answered", seconds)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise StuckError(answer["error"])
        return answer["ok"]

    def ask(self, command: str, *words: Any) -> Any:
        """Tell the agent, and wait for its answer."""
        return self.wait(self.send(command, *words))

    # ---- CPUs ----

    def held(self, cpu: int) -> bool:
        """Whether it is parked."""
        return cpu in self._holds

    def watch(self, cpu: int, place: Place, passes: int = 0) -> None:
        """Park the CPU when it comes to this place."""
        self._tell(f"CPU {cpu} is awaited {place}")
        addresses = self._find(place)
        self._stop()
        assert self._gdb is not None
        self._watches[cpu] = Watch(set(addresses), passes)
        for address in addresses - self._breakpoints:
            self._gdb.set_breakpoint(address)
        self._breakpoints |= addresses
        self._gdb.run()

    def forget(self, cpu: int) -> None:
        """Do not wait for a CPU any more."""
        self._stop()
        self._unwatch(cpu)
        assert self._gdb is not None
        self._gdb.run()

    def release(self, cpu: int) -> None:
        """Let a parked CPU go on."""
        self._tell(f"CPU {cpu} goes on")
        hold = self._holds.pop(cpu)
        self._stop()
        assert self._gdb is not None
        # The task may have been preempted there and go on later, so its code is changed, not
        # the register of the CPU.
        self._gdb.write(hold.slot + _PAUSE, _LEAVE)
        self._slots.append(hold.slot)
        self._gdb.run()

    def until(self, true: Callable[[], bool], what: str, seconds: float = STEP_SECONDS) -> None:
        """Let the guest run until something is true."""
        deadline = Deadline(seconds)
        while not true():
            if deadline.passed:
                raise StuckError(f"it did not come to pass in {patience(seconds):g} s that {what}")
            self._turn(_GLANCE_SECONDS)

    def _turn(self, seconds: float) -> None:
        """Take what comes next: an answer, or a CPU that has stopped the guest."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if self._gdb is not None:
                selector.register(self._gdb, selectors.EVENT_READ)
            for key, _ in selector.select(seconds):
                if key.fileobj is self._gdb:
                    # Acknowledgements come this way too.
                    thread = self._gdb.wait_for_stop(0)
                    if thread is not None:
                        self._see_stop(thread)
                        self._gdb.run()
                else:
                    self._take(os.read(self._process.stdout.fileno(), 1 << 20))

    def _take(self, data: bytes) -> None:
        if not data:
            raise StuckError(f"the guest ended with {self._process.wait()}")
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._answers[answer["id"]] = answer

    def _stop(self) -> None:
        """Stop all CPUs; one may have come to its place meanwhile."""
        assert self._gdb is not None
        if self._gdb.running:
            self._gdb.interrupt()
            # The stub tells of one stop, and a breakpoint that was hit at the same time is hit
            # again as soon as the CPU runs.

    def _see_stop(self, thread: int) -> None:
        """Park a CPU that is where it should be, and let any other pass."""
        assert self._gdb is not None
        cpu = thread - 1
        registers = self._gdb.registers(thread)
        rip = registers["rip"]
        watch = self._watches.get(cpu)
        if watch and rip in watch.addresses and not watch.passes:
            self._unwatch(cpu)
            self._park(thread, rip)
            return
        if watch and rip in watch.addresses:
            watch.passes -= 1
        if rip in self._breakpoints:
            self._gdb.clear_breakpoint(rip)
            self._gdb.step(thread)
            self._gdb.set_breakpoint(rip)

    def _park(self, thread: int, origin: int) -> None:
        assert self._gdb is not None
        # Used again when all others have been: a task may be slow to leave.
        slot = self._slots.pop(0)
        self._gdb.write(slot, parking(slot, origin))
        self._gdb.set_rip(thread, slot)
        self._holds[thread - 1] = Hold(slot, origin)

    def _unwatch(self, cpu: int) -> None:
        assert self._gdb is not None
        self._watches.pop(cpu, None)
        needed = {address for watch in self._watches.values() for address in watch.addresses}
        for address in self._breakpoints - needed:
            self._gdb.clear_breakpoint(address)
        self._breakpoints = needed

    # ---- code ----

    def learn(self, names: Iterable[str]) -> None:
        """Look functions up, all at once: to read kallsyms takes a guest seconds."""
        found = self.ask("symbols", sorted(names))
        for name in names:
            self._symbols[name] = [Symbol(*each) for each in found.get(name, [])]

    def _find(self, place: Place) -> set[int]:
        """The addresses of a place."""
        # Programs come and go.
        fresh = [name for name in place.functions if name.startswith("bpf:")]
        if fresh:
            self.learn(fresh)
        elif str(place) in self._places:
            return self._places[str(place)]
        functions = [self._symbols[name] for name in place.functions if self._symbols[name]]
        targets = {each.address for name in place.callees for each in self._symbols[name]}
        found = {
            address
            for symbol in next(iter(functions), [])
            for address in place.find(self._disassemble(symbol), targets)
        }
        if not found:
            raise NoPlaceError(f"this kernel has no place {place}")
        self._places[str(place)] = found
        return found

    def _disassemble(self, symbol: Symbol) -> list[Instruction]:
        assert self._gdb is not None
        self._stop()
        code = self._gdb.read(symbol.address, symbol.end - symbol.address)
        self._gdb.run()
        return disassemble(code, symbol.address)
