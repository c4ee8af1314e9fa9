"""Polling on a real kernel, with and without what newer kernels tell of each process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.choose_backend import start_poll
from ksmwatch.kernel.read_facts import read_facts
from tests import oracle
from tests.kernel.compare import mappings
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Workload

PLENTY = Budget(3600)


@pytest.mark.parametrize("told", [True, False], ids=["as it is", "without ksm_stat"])
def test_what_was_merged_is_polled(ksm: Ksm, *, told: bool) -> None:
    facts = read_facts()
    with Workload() as load:
        merged, other = load.spawn("merged"), load.spawn("other")
        for each in (merged, other):
            each.map("heap", 311)
            each.fill("heap", 0, 311, seed=3, modulo=1)
        merged.madvise("heap", 0, 307, "mergeable")
        ksm.merge_all()
        poll = start_poll(replace(facts, ksm_stat=told and facts.ksm_stat), 15.0)
        poll.refresh(PLENTY)
        assert {c.pid: c.mappings for c in poll.counts() if c.mappings} == oracle.host()
        assert oracle.host() == {merged.pid: 307}
        merged.write("heap", 5, 11)
        poll.refresh(PLENTY)
        assert {c.pid: c.mappings for c in poll.counts() if c.mappings} == {merged.pid: 296}
        assert not any(count.exact for count in poll.counts())
        assert not +poll.losses


def test_a_daemon_that_polls_knows_what_was_merged(ksm: Ksm) -> None:
    with Daemon("--backend=poll", http=False) as daemon, Workload() as load:
        merged = load.spawn("merged")
        merged.offer("heap", 307, seed=3)
        ksm.merge_all()
        document = daemon.snapshot()
        assert mappings(document) == oracle.host() == {merged.pid: 307}
        assert document["host"]["confidence"] == "estimated"
        assert daemon.stop() == 0
