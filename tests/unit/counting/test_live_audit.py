"""The background audit of the live backend, on a fake kernel."""

from __future__ import annotations

import pytest

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Movement, Total
from tests.fake_kernel import PLENTY, Kernel, of, shown

# ---- the background audit ----


def test_an_audit_goes_round_within_its_allowance_if_missed_runs_are_not_told(
    kernel: Kernel,
) -> None:
    kernel.spawn(10, 7)
    kernel.spawn(20)
    live = kernel.live(kernel.plan._replace(tells_missed=False), policy=Policy(0.01))
    live.start()

    def work() -> None:
        kernel.cpu.now += 0.04

    kernel.during_reads = [work] * 9
    kernel.clock.now += 10
    # 0.1 s in all, 0.04 s for each read; ksmd itself, which has no mm, costs nothing.
    live.tick(PLENTY)
    state = live.audit_state()
    assert (state.reads, state.rounds) == (4, 1)
    live.tick(PLENTY)
    assert live.audit_state() == state


@pytest.fixture
def audited(kernel: Kernel) -> Live:
    """Three processes, each read once by the audit; much allowance, and none that is due."""
    for pid in (10, 20, 30):
        kernel.spawn(pid, 7)
        text = "1000-8000 rw-p 00000000 00:00 0 \nKSM:   28 kB\nVmFlags: rd wr mg \n"
        (kernel.proc.path / f"{pid}/smaps").write_text(text)
    live = kernel.live(policy=Policy(0.5))
    live.start()
    kernel.clock.now += 1
    live.tick(PLENTY)
    # Their areas were not known yet.
    assert live.audit_state().reads == 3
    live.tick(PLENTY)
    assert live.audit_state().reads == 3
    return live


def later(kernel: Kernel, live: Live, seconds: float) -> int:
    """How many processes the audit reads in one tick after this long."""
    before = live.audit_state().reads
    kernel.clock.now += seconds
    live.tick(PLENTY)
    return live.audit_state().reads - before


def test_nobody_is_audited_to_whom_nothing_happens(kernel: Kernel, audited: Live) -> None:
    audited.counts()
    assert later(kernel, audited, 50) == 0


def test_one_process_a_minute_is_audited_whatever_happens(kernel: Kernel, audited: Live) -> None:
    found = [(later(kernel, audited, 61), audited.audit_state().rounds) for _ in range(11)]
    assert [reads for reads, _ in found] == [1] * 11
    # A round is of four: these three and ksmd.
    assert [rounds for _, rounds in found] == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_who_moved_is_audited_after_the_next_look_at_all_counts(
    kernel: Kernel, audited: Live
) -> None:
    kernel.move(kernel.users[20], 2, Movement.MERGED)
    assert later(kernel, audited, 5) == 0
    audited.counts()
    assert later(kernel, audited, 1) == 1
    assert later(kernel, audited, 1) == 0


def test_without_snapshots_the_audit_looks_once_a_minute(kernel: Kernel, audited: Live) -> None:
    kernel.move(kernel.users[20], 2, Movement.MERGED)
    kernel.move(kernel.users[30], 1, Movement.UNMAPPED)
    # And one of the round.
    assert later(kernel, audited, 61) == 3


def test_a_count_that_moved_wrongly_is_found_at_the_next_look(
    kernel: Kernel, audited: Live
) -> None:
    kernel.move(kernel.users[20], 2, Movement.MERGED)
    kernel.pages[kernel.users[20]] -= 1
    audited.counts()
    assert later(kernel, audited, 1) == 1
    assert audited.audit_state().surplus == 1


def test_a_loss_that_left_no_trace_is_found_within_a_minute_for_each_process(
    kernel: Kernel, audited: Live
) -> None:
    kernel.pages[kernel.users[30]] -= 1
    minutes = 0
    while not audited.audit_state().surplus:
        later(kernel, audited, 60)
        minutes += 1
        assert minutes <= len(kernel.users)


def test_an_audit_reads_the_areas_of_who_has_mappings(kernel: Kernel) -> None:
    kernel.spawn(10, 7)
    live = kernel.live(policy=Policy(0.01))
    live.start()
    assert live.evidence(of(live, 10)).stray is None
    text = "1000-3000 rw-p 00000000 00:00 0 \nKSM:   8 kB\nVmFlags: rd wr \n"
    (kernel.proc.path / "10/smaps").write_text(text)
    kernel.clock.now += 1
    kernel.during_reads = [lambda: setattr(kernel.cpu, "now", kernel.cpu.now + 1)]
    live.tick(PLENTY)
    stray = live.evidence(of(live, 10)).stray
    assert stray is not None
    assert [(a.start, a.mappings) for a in stray] == [(0x1000, 2)]


def test_without_healing_what_is_in_doubt_stays_so(kernel: Kernel) -> None:
    live = kernel.live(policy=Policy(0.01, heal=False))
    kernel.spawn(10, 7)
    live.start()
    assert shown(live) == {10: (7, True)}
    kernel.doubt(kernel.users[10])
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.clock.now += 3600
    live.tick(PLENTY)
    live.refresh(PLENTY)
    assert shown(live) == {10: (7, False)}
    assert live.doubt == "events concern processes that have not been read yet (1)"
    assert live.audit_state() == AuditState()


def test_nothing_is_audited_without_a_share_or_asleep(kernel: Kernel) -> None:
    kernel.sys.write("run", 0)
    live = kernel.live(policy=Policy(0.01))
    live.start()
    live.refresh(PLENTY)
    assert live.asleep
    kernel.clock.now += 100
    live.tick(PLENTY)
    assert live.audit_state() == AuditState()
