"""Somebody else traces the hooked function's return, for which the kernel changes return addresses.

COW breaks are told from unmapping by such an address. What cannot be told must be `unattributed`:
a reason that is not known, never a wrong one; and the counts stay exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.btf import Btf
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload, mergeable

TRACING = Path("/sys/kernel/tracing")
PAGES, COPIED, ZAPPED = 211, 53, 11


def _function() -> str:
    """What the daemon hooks, too."""
    names = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}
    return next(name for name in ("folio_remove_rmap_ptes", "page_remove_rmap") if name in names)


@contextmanager
def _graph(function: str) -> Iterator[None]:
    """The function_graph tracer, on this function alone."""
    (TRACING / "set_ftrace_filter").write_text(function)
    (TRACING / "current_tracer").write_text("function_graph")
    try:
        yield
    finally:
        (TRACING / "current_tracer").write_text("nop")
        (TRACING / "set_ftrace_filter").write_text("")


@contextmanager
def _event(definition: str, group: str) -> Iterator[None]:
    """An event of a probe on the return of the function."""
    switch = TRACING / "events" / group / "ours/enable"
    (TRACING / "kprobe_events").write_text(definition)
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text("0")
        # To open the file for writing removes all.
        (TRACING / "kprobe_events").write_text("")


def _kretprobe(function: str) -> Any:
    return _event(f"r:returns/ours {function}", "returns")


# A program that returns 0.
_NOTHING = libbpf.INSTRUCTION.pack(0xB7, 0, 0, 0) + libbpf.INSTRUCTION.pack(0x95, 0, 0, 0)
_BPF_TRACE_FEXIT = 25


@contextmanager
def _fexit(function: str) -> Iterator[None]:
    """Somebody's program on the return, by which the trampoline calls the function."""
    with Btf() as btf:
        fd = libbpf.prog_load(
            "theirs",
            libbpf.PROG_TYPE_TRACING,
            _NOTHING,
            attach_type=_BPF_TRACE_FEXIT,
            function=btf.function(function) or 0,
        )
    link = libbpf.raw_tracepoint_open(fd)
    try:
        yield
    finally:
        os.close(link)
        os.close(fd)


TRACERS: dict[str, Callable[[str], Any]] = {
    "function_graph": _graph,
    "kretprobe": _kretprobe,
    "fexit": _fexit,
}


def told(document: dict[str, Any]) -> tuple[int, int]:
    """How many departures passed for copies, and of how many it is not known."""
    events = document["host"]["events"]
    return events["copied"], events["unattributed"]


def was_traced(tracer: str, function: str) -> bool:
    """Whether the tracer has seen the function; what it has seen is forgotten."""
    if tracer == "fexit":
        # It writes nothing. That it is attached, its link says.
        return True
    trace = (TRACING / "trace").read_text()
    (TRACING / "trace").write_text("")
    return function in trace


def act(tenant: Tenant, first: int) -> None:
    """Some copies and some zaps, from a page on."""
    tenant.write("heap", first, COPIED)
    tenant.madvise("heap", first + COPIED, ZAPPED, "dontneed")


@pytest.mark.parametrize("probes", ["fentry", "kprobe"])
@pytest.mark.parametrize("tracer", TRACERS)
def test_a_reason_that_cannot_be_told_is_not_made_up(tracer: str, probes: str, ksm: Ksm) -> None:
    with Daemon(f"--probes={probes}", http=False) as daemon, Workload() as load:
        a = mergeable(load, "a", PAGES)
        ksm.merge_all()
        with TRACERS[tracer](_function()):
            act(a, 0)
            assert was_traced(tracer, _function())
            left = PAGES - COPIED - ZAPPED
            copied, unattributed = told(assert_exact(daemon, {a.pid: left}))
            assert copied <= COPIED <= copied + unattributed
        act(a, COPIED + ZAPPED)
        after = told(assert_exact(daemon, {a.pid: left - COPIED - ZAPPED}))
        assert after == (copied + COPIED, unattributed)


@pytest.mark.parametrize("probes", ["fentry", "kprobe"])
@pytest.mark.parametrize("tracer", TRACERS)
def test_nothing_false_is_learnt_while_a_tracer_is_on(tracer: str, probes: str, ksm: Ksm) -> None:
    with Workload() as load:
        a = mergeable(load, "a", PAGES)
        ksm.merge_all()
        with TRACERS[tracer](_function()):
            daemon = Daemon(f"--probes={probes}", http=False)
            with daemon:
                act(a, 0)
                assert was_traced(tracer, _function())
                left = PAGES - COPIED - ZAPPED
                copied, unattributed = told(assert_exact(daemon, {a.pid: left}))
                assert copied <= COPIED <= copied + unattributed
