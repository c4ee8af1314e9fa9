"""The running kernel's code shows the same callers of the hooked functions as its image."""

from __future__ import annotations

import os
from pathlib import Path

from ksmwatch.kernel import callers
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.probes.plan import choose
from tests.callers.recorded import callers_of

RECORDED = Path(__file__).parents[1] / "callers/expected"


def test_the_daemon_reads_of_the_running_kernel_what_the_tool_reads_of_its_image() -> None:
    facts = read_facts()
    recorded = callers_of(RECORDED / f"{os.uname().release}.txt")
    assert facts.calls_error is None
    assert facts.calls == {
        f"{caller} {called}": caller in recorded[called]
        for caller, called in callers.pairs()
        if f"{caller} {called}" in facts.calls
    }
    # Of each event that is hooked every role is known.
    plan = choose(facts)
    assert plan.obstacle is None
    for probe in plan.probes:
        assert callers.unproven(facts.calls, probe.event, probe.symbol) == []


def test_nothing_of_it_stays_loaded() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    read_facts()
    assert set(Path("/proc/self/fd").iterdir()) == before
