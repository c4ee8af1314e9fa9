"""The words in which scenarios are written: who is held where, and who runs to where."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.races import places
from tests.races.code import Place
from tests.races.guest import START_SECONDS, Guest, StuckError

HOME, KSMD, SECOND, THIRD = range(4)
# Pages of this tenant stay merged, so that the daemon stays awake and reads nobody for waking up.
_ANCHOR = "anchor"
# Nodes of memory; tenants' CPUs are of the first.
_AT_HOME, _AWAY = range(2)
# What is looked at again and again until it is as wanted.
_LOOKS = 20
_SEEDS = itertools.count(100)


class Actor:
    """Somebody who has a CPU alone, and does one thing at a time."""

    def __init__(self, guest: Guest, name: str, cpu: int) -> None:
        self.guest = guest
        self.name = name
        self.cpu = cpu
        self._doing: int | None = None

    def starts(self, command: str, *words: Any) -> None:
        """Begin something that may be held."""
        if self._doing is not None:
            raise StuckError(f"{self.name} is still at something else")
        self._doing = self.guest.send(command, *words)

    def arrives(self, to: Place, start: Callable[[], None], passes: int = 0) -> Self:
        """Hold it where it comes to a place, after what `start` sets going."""
        if self.cpu == HOME:
            raise StuckError(f"{self.name} has no CPU of its own")
        self.guest.watch(self.cpu, to, passes)
        start()
        self.guest.until(
            lambda: self.guest.held(self.cpu) or self._is_done(), f"{self.name} is {to}"
        )
        if not self.guest.held(self.cpu):
            self.guest.forget(self.cpu)
            self.finishes()
            raise StuckError(f"{self.name} came through without being {to}")
        return self

    def goes_on(self, to: Place | None = None, passes: int = 0) -> Self:
        """Let it go, to be held again at `to`, if that is given."""
        if to is None:
            self.guest.release(self.cpu)
            return self
        return self.arrives(to, lambda: self.guest.release(self.cpu), passes)

    def finishes(self) -> Any:
        """Let it go, and wait until it has done what it began."""
        if self.guest.held(self.cpu):
            self.guest.release(self.cpu)
        doing, self._doing = self._doing, None
        return None if doing is None else self.guest.wait(doing)

    def _is_done(self) -> bool:
        return self._doing is not None and self.guest.answered(self._doing)


class Tenant(Actor):
    """A process that does to its memory what it is told, by the verbs of ksmload."""

    def __init__(self, guest: Guest, name: str, cpu: int, pid: int) -> None:
        super().__init__(guest, name, cpu)
        self.pid = pid

    def does(self, verb: str, *words: Any) -> Any:
        """From beginning to end."""
        return self.guest.ask("tell", self.name, [verb, *words])

    def begins(self, verb: str, *words: Any, to: Place, passes: int = 0) -> Self:
        """Begin something and be held at a place."""

        def start() -> None:
            if verb in ("exec", "kill"):
                self.starts(verb, self.name)
            else:
                self.starts("tell", self.name, [verb, *words])

        return self.arrives(to, start, passes)

    def forks(self, child: str, cpu: int = HOME) -> Tenant:
        """From beginning to end: a child."""
        return Tenant(self.guest, child, cpu, self.guest.ask("fork", self.name, child, cpu))

    def begins_fork(self, child: str, to: Place, cpu: int = HOME, passes: int = 0) -> Tenant:
        """Begin a fork, and be held at a place. The child is there when this `finishes`."""
        self.arrives(to, lambda: self.starts("fork", self.name, child, cpu), passes)
        return Tenant(self.guest, child, cpu, 0)

    def shares(self, child: str, cpu: int) -> Tenant:
        """Another process with the same address space."""
        return Tenant(self.guest, child, cpu, self.guest.ask("clone_vm", self.name, child, cpu))

    def execs(self) -> None:
        """From beginning to end: the same process with nothing in memory."""
        self.guest.ask("exec", self.name)

    def is_killed(self) -> None:
        """The end of it, up to the last of its PTEs."""
        self.guest.ask("kill", self.name)


class Ksmd(Actor):
    """The kernel's thread that merges."""

    def runs(self, to: Place, passes: int = 0) -> Self:
        """Start it, and hold it at a place."""
        return self.arrives(to, lambda: self.guest.ask("ksm", "run", 1), passes)

    def stops(self) -> None:
        """Let it go, and end its scanning after the batch under way."""
        if self.guest.held(self.cpu):
            self.guest.release(self.cpu)
        self.guest.ask("ksm", "run", 0)

    def merges_all(self) -> None:
        """From beginning to end."""
        if self.guest.held(self.cpu):
            self.guest.release(self.cpu)
        self.guest.ask("merge_all")


class Mover(Actor):
    """Somebody who moves a page to another node of memory."""

    def begins_moving(self, tenant: Tenant, page: int, to: Place) -> Self:
        """A page of a tenant's heap leaves, wherever it is mapped; be held at a place."""
        words = (tenant.name, page, _AWAY, self.cpu)
        return self.arrives(to, lambda: self.starts("migrate", *words))

    def moves_and_back(self, tenant: Tenant, page: int) -> None:
        """From beginning to end."""
        for node in (_AWAY, _AT_HOME):
            self.guest.ask("migrate", tenant.name, page, node, self.cpu)


class Daemon(Actor):
    """Ksmwatch itself, when its reads are held."""

    def reads_child(
        self, parent: Tenant, child: str, to: Place, passes: int = 0, cpu: int = HOME
    ) -> Tenant:
        """A fork, after which the child is in doubt; the read of it is held at a place."""
        # So that nobody else is in doubt.
        self.guest.ask("snapshot")
        forks: list[Tenant] = []
        self.arrives(to, lambda: forks.append(parent.forks(child, cpu)), passes)
        return forks[0]

    @contextmanager
    def sees_nothing(self) -> Iterator[None]:
        """It stands still meanwhile, as if it were given no time."""
        self.guest.ask("send_signal", "SIGSTOP")
        yield
        self.guest.ask("send_signal", "SIGCONT")

    def is_started(self, *, pinned: bool = False) -> None:
        """A new one. `pinned`: its hooks stay when it is killed."""
        self.guest.wait(self.guest.send("count", *self.how(pinned=pinned)), START_SECONDS)

    def is_stopped(self) -> None:
        """No hook is attached from now on."""
        self.guest.ask("stop_counting")

    def keeps_its_hooks(self) -> None:
        """From now on they stay when the daemon is killed."""
        self.is_stopped()
        self.is_started(pinned=True)
        self.guest.ask("snapshot")

    def is_replaced(self) -> None:
        """It is killed, and a successor adopts its counts."""
        dying = self.guest.send("kill_daemon")
        if self.guest.held(self.cpu):
            self.guest.release(self.cpu)
        self.guest.wait(dying)
        self.is_started(pinned=True)
        if not self.guest.ask("snapshot")["adopted"]:
            raise StuckError("the successor has begun anew")

    def how(self, *, pinned: bool) -> tuple[str, int, bool]:
        """Its checkout, its CPU, and whether its hooks outlive it."""
        return str(self.guest.daemon), THIRD, pinned

    def begins_to_start(self) -> None:
        """A new one is held before any of its hooks is attached.

        By then it has learned where pages are copied, by a program that is attached and detached.
        To detach one, the kernel waits until no task is held.
        """
        how = self.how(pinned=False)
        self.arrives(places.ATTACHING, lambda: self.starts("count", *how), passes=1)

    def begins_to_renew(self) -> None:
        """It has lost a probe, and is held before all of them are attached again."""

        def start() -> None:
            self.guest.ask("take_off")
            self.starts("snapshot")

        self.arrives(places.ATTACHING, start)

    def begins_snapshot(self, to: Place, passes: int = 0) -> Self:
        """Be asked for a snapshot, and be held at a place on the way."""
        return self.arrives(to, lambda: self.starts("snapshot"), passes)


class Race:
    """One scenario's view of the guest."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.ksmd = Ksmd(guest, "ksmd", KSMD)
        self.daemon = Daemon(guest, "the daemon", THIRD)
        # Instead of ksmd, which stands still then.
        self.mover = Mover(guest, "the mover", KSMD)
        self.wrong: list[str] = []
        # Contents that no other scenario has.
        self.seed = next(_SEEDS)

    def tenant(self, name: str, cpu: int = HOME) -> Tenant:
        """A process that has nothing."""
        return Tenant(self.guest, name, cpu, self.guest.ask("spawn", name, cpu))

    def mergeable(
        self, name: str, pages: int = 2, cpu: int = HOME, seed: int | None = None
    ) -> Tenant:
        """A process with so many equal pages, not merged yet."""
        tenant = self.tenant(name, cpu)
        tenant.does("map", "heap", pages, "apart")
        tenant.does("fill", "heap", 0, pages, seed or self.seed, 1)
        tenant.does("madvise", "heap", 0, pages, "mergeable")
        return tenant

    def merged(self, name: str, pages: int = 2, cpu: int = HOME, seed: int | None = None) -> Tenant:
        """A process with so many pages merged, and ksmd stopped."""
        tenant = self.mergeable(name, pages, cpu, seed)
        self.ksmd.merges_all()
        return tenant

    def unmerges(self) -> None:
        """Nothing is merged any more, and ksmd stands."""
        self.guest.ask("kill", _ANCHOR)
        self.guest.ask("ksm", "run", 2)
        self.guest.ask("ksm", "run", 0)

    def falls_asleep(self) -> None:
        """The daemon, as no KSM page is left."""
        self.unmerges()
        for _ in range(_LOOKS):
            if self.guest.ask("snapshot")["asleep"]:
                return
        raise StuckError("the daemon stays awake")

    def reasons(self) -> tuple[int, int]:
        """How many departures passed for copies so far, and of how many it is not known."""
        events = self.guest.ask("snapshot")["events"]
        return events["copied"], events["unattributed"]

    def losses(self, kind: str) -> int:
        """How many of a kind so far."""
        return int(self.guest.ask("snapshot")["losses"].get(kind, 0))

    def is_honest(self, when: str) -> None:
        """While somebody is held: what is called exact equals the page tables."""
        found = self.guest.ask("compare", "now")
        self.wrong += [f"{when}: {each}" for each in differences(found)]

    def is_exact(self) -> None:
        """At the end: everything is known, and equals the page tables."""
        found = self.guest.ask("compare", "settled")
        self.wrong += [f"at the end: {each}" for each in differences(found)]
        last = found["snapshots"][-1]
        if last["host"] != "exact":
            self.wrong.append(f"the host's sum stays {last['host']}: {last['reason']}")


def differences(found: dict[str, Any]) -> list[str]:
    """Wrong counts that were called exact."""
    truth = dict(found["truth"])
    wrong = []
    for document in found["snapshots"]:
        exact = dict(document["exact"])
        if document["host"] == "exact":
            # A process that is not listed has none.
            exact |= dict.fromkeys(truth.keys() - set(document["listed"]), 0)
        wrong += [
            f"process {pid}: counted {exact[pid]}, true {truth.get(pid, 0)}"
            for pid in sorted(exact)
            if exact[pid] != truth.get(pid, 0)
        ]
    return list(dict.fromkeys(wrong))


Scenario = Callable[[Race], None]


def prepare(guest: Guest) -> None:
    """Ksmd, the daemon and its CPUs."""
    guest.ask("pin", "ksmd", KSMD)
    guest.ask("begin")
    Race(guest).daemon.is_started()


def _awake(guest: Guest) -> None:
    """The daemon counts, and something is merged that stays."""
    if not guest.ask("has", _ANCHOR):
        Race(guest).merged(_ANCHOR, pages=5, seed=7)
    guest.ask("snapshot")
    if guest.ask("snapshot")["asleep"]:
        raise StuckError("the daemon is asleep")


def play(guest: Guest, scenario: Scenario) -> list[str]:
    """One scenario from beginning to end; what is wrong after it."""
    _awake(guest)
    before = guest.ask("snapshot")
    race = Race(guest)
    scenario(race)
    race.ksmd.stops()
    race.is_exact()
    guest.ask("kill_others", [_ANCHOR])
    after = guest.ask("snapshot")
    wrong = list(dict.fromkeys(race.wrong))
    wrong += [
        f"{after[what] - before[what]} {what}"
        for what in ("pages drifted", "mms miscounted")
        if after[what] > before[what]
    ]
    return wrong
