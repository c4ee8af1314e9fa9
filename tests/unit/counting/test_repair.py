"""What others do to the probes: seen, reported, and made up for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.live_backend import Live
from ksmwatch.kernel.probe_switches import ProbeSwitches
from ksmwatch.probes.map_records import Movement
from ksmwatch.probes.plan import Wish, choose
from tests.fake_kernel import Kernel, shown
from tests.fakes import capable

PLENTY = Budget(3600)
FTRACE = "probes do not run while kernel.ftrace_enabled is 0"
KPROBES = "probes do not run while /sys/kernel/debug/kprobes/enabled is 0"


def set_kprobes(kernel: Kernel, value: int) -> None:
    path = kernel.sys.path / "kernel/debug/kprobes/enabled"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


# ---- switches ----


def test_a_host_without_the_files_stops_nothing(tmp_path: Path) -> None:
    assert ProbeSwitches(tmp_path, tmp_path, kprobes=True).stopped() is None


@pytest.mark.parametrize(
    ("ftrace", "kprobes", "used", "sentence"),
    [
        (1, 1, True, None),
        (0, 1, False, FTRACE),
        (0, 0, True, FTRACE),
        (1, 0, True, KPROBES),
        # Fentry does not care about kprobes.
        (1, 0, False, None),
    ],
)
def test_the_switches(
    kernel: Kernel,
    ftrace: int,
    kprobes: int,
    used: bool,  # noqa: FBT001
    sentence: str | None,
) -> None:
    kernel.switch_ftrace(ftrace)
    set_kprobes(kernel, kprobes)
    switches = ProbeSwitches(kernel.proc.path, kernel.sys.path, kprobes=used)
    assert switches.stopped() == sentence


def test_while_probes_are_stopped_nothing_is_known_and_afterwards_all_is_read(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    kernel.switch_ftrace(0)
    kernel.pages[kernel.users[10]] = 4
    started.tick(PLENTY)
    assert started.doubt == FTRACE
    kernel.pages[kernel.users[10]] = 11
    kernel.switch_ftrace(1)
    kernel.clock.now += 100
    started.tick(PLENTY)
    assert started.doubt is None
    assert shown(started)[10] == (11, True)
    # Once for the stop, however long it lasts. The errors that it caused are not drift.
    assert (started.losses["probes_stopped"], started.losses["renewals"]) == (1, 1)
    assert started.audit_state() == AuditState(corrected_missing=4)
    assert warnings == [{"why": "probes did not run for a while"}]


def test_kprobes_that_are_switched_off_matter_to_kprobes_only(
    kernel: Kernel, started: Live
) -> None:
    set_kprobes(kernel, 0)
    started.tick(PLENTY)
    assert started.doubt is None
    other = kernel.live(choose(capable(), Wish("kprobe")))
    other.start()
    other.tick(PLENTY)
    assert other.doubt == KPROBES


def test_a_stop_while_asleep_wakes_it_up(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    kernel.pages[kernel.users[10]] = 0
    started.read(10)
    started.tick(PLENTY)
    kernel.sys.write("run", 0)
    started.tick(PLENTY)
    assert started.asleep
    kernel.switch_ftrace(0)
    # No hook sees this arrival.
    kernel.pages[kernel.users[20]] = 3
    started.tick(PLENTY)
    assert not started.asleep
    kernel.switch_ftrace(1)
    started.tick(PLENTY)
    assert shown(started)[20] == (3, True)


# ---- renewal ----


def test_a_probe_that_was_taken_off_is_missed_and_goes_on_again(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    probes = set(kernel.attached)
    kernel.take_off("rmap_remove")
    kernel.pages[kernel.users[10]] = 4
    kernel.pages[kernel.users[20]] = 2
    started.tick(PLENTY)
    assert kernel.attached == probes
    assert shown(started) == {10: (4, True), 20: (2, True)}
    # It is explained, so it is not drift.
    assert started.audit_state() == AuditState(corrected_surplus=3, corrected_missing=2)
    assert started.losses == {"probes_lost": 1, "renewals": 1}
    assert (started.doubt, warnings) == (
        None,
        [{"why": "the probe on folio_remove_rmap_ptes was taken off"}],
    )


def test_while_a_probe_is_off_and_cannot_be_renewed_yet_nothing_is_known(
    kernel: Kernel, started: Live
) -> None:
    kernel.take_off("rmap_remove")
    kernel.during_reads = [lambda: setattr(kernel.clock, "now", kernel.clock.now + 2.5)]
    started.tick(PLENTY)
    assert started.doubt is None
    kernel.take_off("rmap_remove")
    started.refresh(PLENTY)
    assert started.doubt == "the probe on folio_remove_rmap_ptes was taken off"
    kernel.clock.now += 10
    started.tick(PLENTY)
    assert started.doubt is None
    assert started.losses["probes_lost"] == 2


def test_a_sentry_that_was_taken_off_while_asleep_goes_on_again(
    kernel: Kernel, started: Live
) -> None:
    kernel.move(kernel.users[10], 7, Movement.UNMAPPED)
    kernel.sys.write("run", 0)
    started.tick(PLENTY)
    assert started.asleep
    sentry = set(kernel.attached)
    kernel.take_off("merge")
    # No hook sees this arrival.
    kernel.pages[kernel.users[20]] = 3
    kernel.clock.now += 5
    started.tick(PLENTY)
    assert kernel.attached > sentry
    assert shown(started)[20] == (3, True)


def test_drift_that_nothing_announced_begins_anew(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    kernel.pages[kernel.users[10]] = 4
    kernel.pages[kernel.users[20]] = 2
    started.read(10)
    assert started.audit_state() == AuditState(surplus=3, last=3)
    started.tick(PLENTY)
    # Process 20, which the audit had not reached, is right as well.
    assert shown(started) == {10: (4, True), 20: (2, True)}
    assert started.audit_state() == AuditState(surplus=3, last=3, corrected_missing=2)
    assert (started.losses["renewals"], started.doubt) == (1, None)
    assert warnings[-1] == {"why": "counts have drifted"}
    kernel.clock.now += 1000
    started.tick(PLENTY)
    assert started.losses["renewals"] == 1


def test_renewals_take_a_fifth_of_the_time_at_most(kernel: Kernel, started: Live) -> None:
    def slow() -> None:
        kernel.clock.now += 2

    kernel.pages[kernel.users[10]] = 4
    started.read(10)
    kernel.during_reads = [slow]
    started.tick(PLENTY)
    assert started.losses["renewals"] == 1
    for seconds, renewals in ((7, 1), (1, 2)):
        kernel.pages[kernel.users[10]] += 1
        started.read(10)
        kernel.clock.now += seconds
        started.tick(PLENTY)
        assert started.losses["renewals"] == renewals


def test_hooks_that_cannot_go_on_again_are_said(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    kernel.pages[kernel.users[10]] = 4
    started.read(10)
    kernel.refused = {"rmap_add"}
    started.tick(PLENTY)
    assert started.doubt is not None
    assert "can no longer be attached" in started.doubt
    assert started.losses["attach_failed"] == 2
    assert not started.asleep
    kernel.refused = set()
    # It was tried twice.
    kernel.clock.now += 2
    started.tick(PLENTY)
    assert shown(started)[10] == (4, True)
