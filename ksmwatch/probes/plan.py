"""The probe plan: one probe per event, chosen from facts by pure functions.

The plan is data. ``ksmwatch check`` prints it with the rejected probes, the loader compiles it,
the daemon attaches it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from ksmwatch.errors import Exit
from ksmwatch.kernel import callers
from ksmwatch.kernel.events import (
    EVENTS,
    MAP_ITERATOR,
    STAND_INS,
    TRACEPOINTS,
    VMA,
    Event,
    Mechanism,
    Side,
    Tracepoint,
)
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.obstacles import Obstacle, host_obstacle


class Wish(StrEnum):
    """The value of ``--probes``."""

    AUTO = "auto"
    FENTRY = "fentry"
    KPROBE = "kprobe"


class Access(StrEnum):
    """What runs a program without an event: the daemon, or a read of an iterator."""

    SYSCALL = "syscall"
    ITERATOR = "iterator"


class Program(NamedTuple):
    """One BPF program. `rest`: the function that it calls, compiled separately."""

    name: str
    mechanism: Mechanism | Access
    symbol: str
    at_return: bool = False
    rest: str | None = None


class Probe(NamedTuple):
    """The probe chosen for an event.

    `arguments`: how many the function takes, None if unknown. `vma`: the position of
    the area among them.
    """

    event: str
    mechanism: Mechanism
    symbol: str
    programs: tuple[Program, ...]
    asleep: bool
    vma: int | None = None
    arguments: int | None = None


class Rejected(NamedTuple):
    """A probe that was possible in principle, and why it was not chosen.

    `tried`: the kernel was asked for it, and refused.
    """

    event: str
    mechanism: Mechanism
    symbol: str
    why: str
    tried: bool = False


class Plan(NamedTuple):
    """Probes by event, or the obstacle."""

    probes: tuple[Probe, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    obstacle: Obstacle | None = None
    # The source of struct offsets: "btf" or the directory of kernel headers.
    layout: str = "btf"
    # Whether the kernel counts the program runs that it skips.
    tells_missed: bool = True
    # Programs that the daemon runs itself: one that looks which accounts have changed, and others
    # that read and write maps if map system calls would stop the hooks.
    access: tuple[Program, ...] = ()
    # Why it is not known how old mappings are when they end; None if it is.
    ageless: str | None = "nothing is hooked"
    # Nodes of memory by which mappings are counted; none on a host with one node.
    nodes: tuple[int, ...] = ()
    # Why they are not, on a host with several; None if they are.
    nodeless: str | None = None

    @property
    def mechanisms(self) -> str:
        """The mechanism of the hot hooks, for display: fentry, kprobe or none."""
        return next((p.mechanism.value for p in self.probes if p.event == "rmap_remove"), "none")

    def tells_ages(self, probe: Probe) -> bool:
        """Whether programs of this probe have code for ages."""
        return self.ageless is None and probe.event in _AGED

    @property
    def learners(self) -> list[Program]:
        """Attached for a moment to the function that counts departures: see cow_call_site.py."""
        probes = (probe for probe in self.probes if probe.event == "rmap_remove")
        return [Program(LEARNER, probe.mechanism, probe.symbol) for probe in probes]

    @property
    def programs(self) -> list[Program]:
        """All programs to load."""
        return [*self.kept, *self.learners]

    @property
    def kept(self) -> list[Program]:
        """The programs that a successor adopts."""
        return [*(program for probe in self.probes for program in probe.programs), *self.access]


LEARNER = "learn_copy"
# Looks which accounts have changed.
LOOKER = Program("find_changed", Access.SYSCALL, "")
# What a refusal of these programs is known by.
ACCESS = "access"
# Likewise of a program because of the code for ages in it.
AGES = "ages"
_ABSENT = "no such function in this kernel, or it is inlined"
_UNWANTED = "--probes="
UNWANTED_AGES = "--ages.one-in=0"
_PREEMPTED = "another task can preempt it (PREEMPT_RT), so events of that task would be skipped"


def choose(facts: Facts, wish: Wish = Wish.AUTO, *, ages: bool = True) -> Plan:
    """The plan for this host. `ages`: whether the age of mappings is wanted."""
    obstacle = host_obstacle(facts)
    if obstacle is not None:
        return Plan(obstacle=obstacle)
    probes: list[Probe] = []
    rejected: list[Rejected] = []
    for event in EVENTS:
        chosen, refused = _choose_event(facts, event, wish)
        rejected += refused
        if chosen is not None:
            probes.append(chosen)
        elif event.required:
            return Plan(rejected=tuple(rejected), obstacle=_event_obstacle(event, refused))
    for event in _stand_ins(facts, probes):
        chosen, refused = _choose_event(facts, event, wish)
        rejected += refused
        if chosen is None:
            return Plan(rejected=tuple(rejected), obstacle=_event_obstacle(event, refused))
        probes.append(chosen)
    for tracepoint in TRACEPOINTS:
        chosen, refused = _choose_tracepoint(facts, tracepoint)
        rejected += refused
        if chosen is not None:
            probes.append(chosen)
    layout = "btf" if facts.offsets else facts.headers or ""
    nodes, nodeless = _nodes(facts)
    return Plan(
        tuple(probes),
        tuple(rejected),
        layout=layout,
        tells_missed=_tells_missed(facts, {probe.mechanism for probe in probes}),
        access=_choose_access(facts, probes),
        ageless=_ageless(facts, probes) if ages else UNWANTED_AGES,
        nodes=nodes,
        nodeless=nodeless,
    )


# An account has a number for each node, and access.c copies it to its stack.
MOST_NODES = 8


def _nodes(facts: Facts) -> tuple[tuple[int, ...], str | None]:
    """The nodes by which mappings are counted, and why they are not."""
    nodes = facts.memory_nodes
    if len(nodes) < 2:
        return (), None
    if nodes[-1] >= MOST_NODES:
        return (), f"the host has a node {nodes[-1]}, and only those below {MOST_NODES} are counted"
    if facts.offsets and "page_flags" not in facts.offsets:
        return (), "BTF does not describe the flags of a page"
    return nodes, None


# Where arrivals and departures of mappings are seen: the programs with code for ages.
_AGED = ("rmap_add", "rmap_remove", "merge")
# And what says that a page is one of its own, or has moved.
_AGING = (*_AGED, "protect", "migrate")


def _ageless(facts: Facts, probes: Sequence[Probe]) -> str | None:
    """Why the programs cannot tell the age of mappings (ages.c); None if they can."""
    refused = (why for key, why in facts.refused.items() if key.startswith(f"{AGES} "))
    if why := next(refused, None):
        return f"the kernel refused the programs that would tell: {why}"
    if facts.realtime:
        return "with PREEMPT_RT, an arrival or a departure can be skipped"
    mechanisms = {probe.event: probe.mechanism for probe in probes}
    for event in EVENTS:
        if event.name in _AGING and event.name not in mechanisms:
            return f"no probe is possible where {event.meaning}"
    if any(mechanisms[name] is Mechanism.KPROBE for name in _AGING):
        return "one of its hooks is a kprobe, and the kernel skips some of their runs"
    return None


def _tells_missed(facts: Facts, mechanisms: Collection[Mechanism]) -> bool:
    """Whether every skipped run of a program is counted: by kprobe only since 6.7."""
    return Mechanism.KPROBE not in mechanisms or facts.version >= (6, 7)


def _choose_access(facts: Facts, probes: Sequence[Probe]) -> tuple[Program, ...]:
    """What looks at accounts (looks.c), and what is in the place of map system calls (access.c).

    Map system calls would stop kprobe programs.
    """
    looker = f"{ACCESS} {LOOKER.mechanism} {LOOKER.name}"
    lookers = () if looker in facts.refused else (LOOKER,)
    if not any(probe.mechanism is Mechanism.KPROBE for probe in probes) or facts.btf_error:
        return lookers
    if any(key.startswith(f"{ACCESS} ") and key != looker for key in facts.refused):
        return lookers
    maps = ("accounts", "baselines")
    return (
        *lookers,
        *(Program(f"access_{name}", Access.SYSCALL, "") for name in maps),
        *(Program(f"list_{name}", Access.ITERATOR, MAP_ITERATOR) for name in maps),
    )


def _stand_ins(facts: Facts, probes: Sequence[Probe]) -> list[Event]:
    """Further functions to hook, because some callers do not call a hooked function."""
    unseen = (role for p in probes for role in callers.unseen(facts.calls, p.event, p.symbol))
    names = {role.instead for role in unseen}
    return [event for event in STAND_INS if event.name in names]


def _event_obstacle(event: Event, refused: list[Rejected]) -> Obstacle:
    # `check` lists every candidate; the sentence names the closest ones.
    nearest = [r for r in refused if r.why != _ABSENT and not r.why.startswith(_UNWANTED)]
    whys = dict.fromkeys(f"{r.symbol} by {r.mechanism}: {r.why}" for r in nearest or refused)
    return Obstacle(
        f"No probe is possible where {event.meaning} ({'; '.join(whys)}).", Exit.NO_LIVE
    )


def _choose_event(facts: Facts, event: Event, wish: Wish) -> tuple[Probe | None, list[Rejected]]:
    """The first acceptable (mechanism, symbol), and why the ones before it are not."""
    refused: list[Rejected] = []
    # A handler of kprobes runs with preemption off. That the kernel skipped one must be known.
    preempted = facts.realtime and _tells_missed(facts, (Mechanism.KPROBE,))
    order = (Mechanism.FENTRY, Mechanism.KPROBE)
    for mechanism in reversed(order) if preempted else order:
        for symbol in event.symbols:
            why = _objection(facts, event, mechanism, symbol, wish)
            if why is None:
                if preempted and mechanism is Mechanism.KPROBE and wish is Wish.AUTO:
                    refused.append(Rejected(event.name, Mechanism.FENTRY, symbol, _PREEMPTED))
                return _probe(facts, event, mechanism, symbol), refused
            tried = _refusal(facts, event.name, mechanism, symbol) is not None
            refused.append(Rejected(event.name, mechanism, symbol, why, tried))
    return None, refused


def _refusal(facts: Facts, event: str, mechanism: Mechanism, symbol: str) -> str | None:
    """The kernel's answer to a request for this probe; None if there was none, or it accepted."""
    why = facts.refused.get(f"{event} {mechanism} {symbol}")
    if why is None:
        return None
    return f"the kernel refused it: {why}"


def _objection(
    facts: Facts, event: Event, mechanism: Mechanism, symbol: str, wish: Wish
) -> str | None:
    """Why this probe is impossible; None if it is possible."""
    refusal = _refusal(facts, event.name, mechanism, symbol)
    if refusal is not None:
        return refusal
    if symbol not in facts.symbols:
        return _ABSENT
    if facts.symbols[symbol] > 1:
        return f"{facts.symbols[symbol]} functions have this name"
    if wish is not Wish.AUTO and wish.value != mechanism.value:
        return f"{_UNWANTED}{wish.value}"
    if mechanism is Mechanism.FENTRY:
        why = _fentry_objection(facts, symbol)
    else:
        why = _kprobe_objection(facts)
    if why is None:
        why = _inlined(facts, event, symbol)
    if why is None and event.needs_vma and _vma_position(facts, symbol) is None:
        why = "its arguments do not include the area (they do since 5.18), so the mm is unknown"
    return why


def _inlined(facts: Facts, event: Event, symbol: str) -> str | None:
    """Whether a caller does not call the function, and nothing can stand in for it."""
    for role in callers.unseen(facts.calls, event.name, symbol):
        if role.instead is None:
            where = " and ".join(each for each in role.callers if f"{each} {symbol}" in facts.calls)
            return f"{where} does not call it (inlined), so {role.meaning} would be missed"
    return None


def _fentry_objection(facts: Facts, symbol: str) -> str | None:
    if facts.btf_error is not None:
        return f"no kernel BTF: {facts.btf_error}"
    if not facts.trampolines:
        return "the kernel has no BPF trampolines"
    if symbol not in facts.prototypes:
        return "not in the kernel's BTF"
    return None


def _kprobe_objection(facts: Facts) -> str | None:
    if not facts.kprobes:
        return "the kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)"
    if not facts.bpf_programs.get("kprobe", False):
        return "the kernel refuses kprobe programs"
    if facts.kprobes_disarmed:
        return "kprobes are switched off (0 in /sys/kernel/debug/kprobes/enabled)"
    # perf_kprobe_event_init() needs CAP_PERFMON, but perf_event_open() of a kprobe by
    # its type needs CAP_SYS_ADMIN on kernels before 5.8.
    return None


# Without BTF, a prototype is known only for functions whose signature never changed.
_VMA_WITHOUT_BTF = {
    "folio_add_anon_rmap_ptes": 3,
    "folio_remove_rmap_ptes": 3,
    "page_add_anon_rmap": 1,
}


def _vma_position(facts: Facts, symbol: str) -> int | None:
    prototype = facts.prototypes.get(symbol)
    if prototype is None:
        return _VMA_WITHOUT_BTF.get(symbol)
    return prototype.index(VMA) if VMA in prototype else None


def _arguments(facts: Facts, symbol: str) -> int | None:
    prototype = facts.prototypes.get(symbol)
    return None if prototype is None else len(prototype)


def _probe(facts: Facts, event: Event, mechanism: Mechanism, symbol: str) -> Probe:
    return Probe(
        event.name,
        mechanism,
        symbol,
        tuple(_programs(event, mechanism, symbol)),
        event.asleep,
        _vma_position(facts, symbol) if event.needs_vma else None,
        _arguments(facts, symbol),
    )


def _programs(event: Event, mechanism: Mechanism, symbol: str) -> list[Program]:
    """Program names as in the sources: on_EVENT and on_EVENT_return, with either mechanism.

    In the order in which they are attached.
    """
    fentry = mechanism is Mechanism.FENTRY
    programs = []
    at_entry = (Side.ENTRY, Side.BOTH) if fentry else tuple(set(Side) - {Side.RETURN})
    if event.side in at_entry:
        rest = f"rest_of_{event.name}" if event.hot else None
        programs.append(Program(f"on_{event.name}", mechanism, symbol, rest=rest))
    if event.side is not Side.ENTRY:
        programs.append(Program(f"on_{event.name}_return", mechanism, symbol, at_return=True))
    return programs[::-1] if event.return_first else programs


def _choose_tracepoint(facts: Facts, tracepoint: Tracepoint) -> tuple[Probe | None, list[Rejected]]:
    mechanism, event, symbol = Mechanism.RAW_TRACEPOINT, tracepoint.event, tracepoint.symbol
    why = refusal = _refusal(facts, event, mechanism, symbol)
    if why is None and symbol not in facts.tracepoints:
        why = "no such tracepoint in this kernel"
    if why is not None:
        return None, [Rejected(event, mechanism, symbol, why, refusal is not None)]
    programs = (Program(f"on_{event}", mechanism, symbol),)
    return Probe(event, mechanism, symbol, programs, tracepoint.asleep), []
