"""The one sentence that says why live accounting is impossible."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.errors import Exit, NoKsmError, NoLiveError, PrivilegeError
from ksmwatch.kernel.events import EVENTS
from ksmwatch.probes.obstacles import Obstacle
from ksmwatch.probes.plan import choose
from tests.fakes import capable, without, without_symbols

NO_BTF = {"btf_error": "gone", "offsets": {}, "prototypes": {}}
REQUIRED = [event for event in EVENTS if event.required]
OPTIONAL = [event for event in EVENTS if not event.required]


OBSTACLES: list[tuple[dict[str, Any], Exit, str]] = [
    (
        {"ksm": False, "release": "9.9"},
        Exit.NO_KSM,
        (
            "This kernel (9.9) has no KSM: /sys/kernel/mm/ksm does not exist, so there is nothing "
            "to watch."
        ),
    ),
    (
        {"capabilities": frozenset({"CAP_BPF"}), "uid": 1000},
        Exit.PRIVILEGE,
        "Live accounting needs root, or CAP_BPF and CAP_PERFMON; ksmwatch runs as uid 1000.",
    ),
    (
        {"capabilities": frozenset({"CAP_PERFMON"})},
        Exit.PRIVILEGE,
        (
            "Live accounting needs root, or CAP_BPF and CAP_PERFMON; ksmwatch runs as root without "
            "the capabilities."
        ),
    ),
    (
        {"lockdown": "confidentiality"},
        Exit.NO_LIVE,
        ("Kernel lockdown is in confidentiality mode, so BPF programs may not read kernel memory."),
    ),
    (
        {"machine": "s390x"},
        Exit.NO_LIVE,
        "Live accounting works on x86-64 and arm64 only; this machine is s390x.",
    ),
    (
        {"bpf_error": "libbpf cannot be loaded (why)"},
        Exit.NO_LIVE,
        "BPF programs cannot be loaded: libbpf cannot be loaded (why).",
    ),
    (
        {"bpf_programs": {"kprobe": False, "raw_tracepoint": False, "tracing": False}},
        Exit.NO_LIVE,
        (
            "The kernel refuses BPF programs, although ksmwatch has the capabilities for them "
            "(a security module, seccomp, or a kernel without CONFIG_BPF_SYSCALL)."
        ),
    ),
    (
        {"kallsyms_error": "Permission denied", "symbols": {}},
        Exit.NO_LIVE,
        (
            "/proc/kallsyms cannot be read (Permission denied), so it is unknown which functions "
            "this kernel has."
        ),
    ),
    (
        NO_BTF,
        Exit.NO_LIVE,
        (
            "This kernel has no BTF (gone), and its headers are not installed, so the layout of "
            "its structures is unknown."
        ),
    ),
    (
        {"offsets": {n: o for n, o in capable().offsets.items() if n != "mm_struct_owner"}},
        Exit.NO_LIVE,
        "This kernel's BTF has no mm_struct_owner, which the BPF programs must read.",
    ),
]


@pytest.mark.parametrize(("changes", "status", "sentence"), OBSTACLES)
def test_an_obstacle_is_one_sentence_and_a_status(
    changes: dict[str, Any], status: Exit, sentence: str
) -> None:
    plan = choose(without(**changes))
    assert plan.obstacle == Obstacle(sentence, status)
    assert plan.probes == ()


def test_of_many_obstacles_the_most_basic_is_named() -> None:
    wrong: dict[str, Any] = {}
    for changes, status, sentence in reversed(OBSTACLES):
        wrong.update(changes)
        assert choose(without(**wrong)).obstacle == Obstacle(sentence, status)


@pytest.mark.parametrize(
    "capabilities", [{"CAP_SYS_ADMIN"}, {"CAP_BPF", "CAP_PERFMON"}], ids=["old", "new"]
)
def test_enough_capabilities_are_enough_without_root(capabilities: set[str]) -> None:
    assert choose(without(capabilities=frozenset(capabilities), uid=1000)).obstacle is None


def test_integrity_lockdown_is_no_obstacle() -> None:
    assert choose(without(lockdown="integrity")).obstacle is None


@pytest.mark.parametrize("event", REQUIRED, ids=lambda event: event.name)
def test_an_event_that_cannot_be_seen_is_an_obstacle(event: Any) -> None:
    plan = choose(without_symbols(*event.symbols))
    assert plan.obstacle is not None
    assert plan.obstacle.status is Exit.NO_LIVE
    assert plan.obstacle.sentence.startswith(f"No probe is possible where {event.meaning} (")
    assert "no such function in this kernel, or it is inlined" in plan.obstacle.sentence


@pytest.mark.parametrize("event", OPTIONAL, ids=lambda event: event.name)
def test_an_event_that_is_not_required_may_be_absent(event: Any) -> None:
    plan = choose(without_symbols(*event.symbols))
    assert plan.obstacle is None
    assert event.name not in {p.event for p in plan.probes}
    assert event.name in {r.event for r in plan.rejected}


def test_the_sentence_names_only_the_nearest_candidates() -> None:
    plan = choose(without(trampolines=False, kprobes=False))
    assert plan.obstacle is not None
    assert plan.obstacle.sentence == (
        "No probe is possible where the last reference to an mm is dropped (__mmdrop by fentry: "
        "the kernel has no BPF trampolines; __mmdrop by kprobe: the kernel has no kprobes "
        "(CONFIG_KPROBES, CONFIG_KPROBE_EVENTS))."
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Exit.NO_KSM, NoKsmError),
        (Exit.PRIVILEGE, PrivilegeError),
        (Exit.NO_LIVE, NoLiveError),
    ],
)
def test_an_obstacle_becomes_the_error_with_its_status(status: Exit, kind: type[Exception]) -> None:
    error = Obstacle("Why.", status).error()
    assert type(error) is kind
    assert (error.status, str(error)) == (status, "Why.")
