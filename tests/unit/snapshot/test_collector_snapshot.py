"""How a snapshot is put together from counts, names and the kernel's numbers."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from ksmwatch.counting.backend import Budget, Evidence
from ksmwatch.counting.backend_state import MapState, Mode
from ksmwatch.counting.choose_backend import Nothing
from ksmwatch.counting.cow_breaks import Events
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.residue import Residue
from ksmwatch.counting.run_state import RunWatch
from ksmwatch.owners import sums
from ksmwatch.owners.owner import UNKNOWN, OwnerKind
from ksmwatch.owners.processes import ProcessTable
from ksmwatch.snapshot import collector
from ksmwatch.snapshot.collector import Watcher
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.losses import LOSSES
from ksmwatch.snapshot.model import Reload
from ksmwatch.snapshot.process import Confidence
from tests.fakes import Proc, Sys, capable


class FakeBackend(Nothing):
    """Counts as told."""

    def __init__(self, *counts: Count) -> None:
        super().__init__()
        self.mode = Mode.BPF
        self.run = RunWatch(time.monotonic)
        self.run.see(1)
        self._counts = list(counts)
        self.heirs: dict[int, tuple[int, int]] = {}
        self.budgets: list[Budget] = []

    def refresh(self, budget: Budget) -> None:
        """Remember the budget."""
        self.budgets.append(budget)

    def counts(self) -> list[Count]:
        return self._counts

    def owner(self, count: Count) -> tuple[int, int] | None:
        return self.heirs.get(count.account)

    def evidence(self, count: Count) -> Evidence:
        """A time that distinguishes accounts."""
        return Evidence(float(count.account))

    def totals(self) -> dict[str, int]:
        """One of them is a loss."""
        return {"merged": 5, "events_lost": 3}


def count(pid: int, mappings: int, *, ticks: int = 5000, exact: bool = True) -> Count:
    return Count(
        0xFFFF0000 + pid, pid * 10, pid, ticks, mappings, exact, (mappings, 0, 0, 0, 0, 0, 0)
    )


class Host:
    """An invented host, and a watcher of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.proc = Proc(tmp_path / "proc")
        self.sys = Sys(tmp_path / "sys", pages_shared=2, pages_sharing=8)
        for name in ("meminfo", "vmstat"):
            (self.proc.path / name).write_text("MemTotal: 5 kB\n")

    def watch(self, backend: FakeBackend, reason: str | None = None) -> Watcher:
        table = ProcessTable(self.proc.path)
        return Watcher(backend, capable(), table, reason, proc=self.proc.path, sys=self.sys.path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_snapshot_joins_counts_names_and_the_kernels_numbers(host: Host) -> None:
    host.proc.process(2, comm="kthreadd", parent=0)
    host.proc.process(32, comm="ksmd", parent=2, cpu=(0, 50))
    host.proc.process(7, comm="small", merging=9)
    host.proc.process(8, comm="large", merging=None)
    made = host.watch(FakeBackend(count(7, 3), count(8, 30, exact=False))).snapshot(0.5)
    assert [(p.pid, p.comm, p.name, p.mappings) for p in made.largest_first] == [
        (8, "large", "large", 30),
        (7, "small", "small", 3),
    ]
    large, small = made.largest_first
    assert (large.confidence, small.confidence) == (Confidence.ESTIMATED, Confidence.EXACT)
    assert (large.kernel_merging_pages, small.kernel_merging_pages) == (None, 9)
    assert (large.read_at, small.read_at) == (80.0, 70.0)
    assert small.residue is Residue.MERGED
    assert small.owner.key == (OwnerKind.UNIT, "tenant.service")
    assert made.kernel_mappings == 10
    assert made.numbers.ksmd_cpu == 50 / os.sysconf("SC_CLK_TCK")
    assert made.numbers.meminfo == {"MemTotal": 5}
    assert made.kernel == capable().release


def test_equal_counts_are_in_order_of_pid(host: Host) -> None:
    for pid in (9, 7, 8):
        host.proc.process(pid)
    made = host.watch(FakeBackend(count(9, 1), count(7, 1), count(8, 1))).snapshot(0)
    assert [p.pid for p in made.largest_first] == [7, 8, 9]


def test_a_pid_that_was_given_away_is_not_the_owner(host: Host) -> None:
    host.proc.process(7, comm="stranger", ticks=9999)
    made = host.watch(FakeBackend(count(7, 12))).snapshot(0)
    assert made.processes == ()
    assert made.unnamed == made.mappings == 12
    # Mappings without a known process are not silently left out of the sum.
    assert made.confidence is Confidence.UNKNOWN
    assert made.reason == "12 pages are mapped by processes that could not be named"


def test_events_are_those_since_the_daemon_began(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {"copied": 100, "unattributed": 5, "swapin_ksm": 10}
    monkeypatch.setattr(FakeBackend, "totals", lambda _: dict(counted))
    vmstat = host.proc.path / "vmstat"
    vmstat.write_text("cow_ksm 1000\nksm_swpin_copy 50\n")
    watcher = host.watch(FakeBackend())
    counted["copied"] += 13
    vmstat.write_text("cow_ksm 1017\nksm_swpin_copy 52\n")
    assert watcher.snapshot(1).events == Events(17, 13, 0, 2, 0)


def test_losses_of_all_kinds_are_added_up(host: Host) -> None:
    backend = FakeBackend()
    backend.losses = Counter(reads_denied=2, something_new=1)
    (host.sys.ksm / "strange").write_text("not a number\n")
    watch = host.watch(backend)
    watch.losses["reads_denied"] += 5
    losses = watch.snapshot(0).losses
    assert set(LOSSES) <= set(losses)
    assert {kind: n for kind, n in losses.items() if n} == {
        "reads_denied": 7,
        "something_new": 1,
        "events_lost": 3,
        "sources_unreadable": 1,
    }
    # The same file again is another loss.
    assert watch.snapshot(0).losses["sources_unreadable"] == 2


@pytest.mark.parametrize("missing", [PermissionError(1, "no"), ModuleNotFoundError("no pyroute2")])
def test_a_snapshot_needs_no_process_events(
    missing: Exception, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def subscribe() -> None:
        raise missing

    monkeypatch.setattr(collector, "subscribe", subscribe)
    watcher = host.watch(FakeBackend())
    watcher.follow_processes()
    assert watcher.snapshot(0).losses["connector_lost"] == 1


def test_the_reason_and_the_budget_are_passed_on(host: Host) -> None:
    backend = FakeBackend()
    made = host.watch(backend, "Because.").snapshot(0)
    assert made.mode_reason == "Because."
    assert [budget.left() for budget in backend.budgets] == [False]


def test_movements_are_added_up_by_owner_beyond_the_end_of_a_process(host: Host) -> None:
    for pid in (7, 8):
        host.proc.process(pid)
    host.proc.process(9, cgroup="/system.slice/other.service")
    backend = FakeBackend(count(7, 3), count(8, 30), count(9, 5))
    watch = host.watch(backend)
    key, other = (OwnerKind.UNIT, "tenant.service"), (OwnerKind.UNIT, "other.service")
    assert watch.snapshot(0).moved == {key: (33, 0, 0, 0, 0, 0, 0), other: (5, 0, 0, 0, 0, 0, 0)}
    backend._counts = [count(8, 31), count(9, 5)]
    host.proc.end(7)
    assert watch.snapshot(0).moved == {key: (34, 0, 0, 0, 0, 0, 0), other: (5, 0, 0, 0, 0, 0, 0)}


def test_whose_process_cannot_be_named_moves_for_the_unknown(host: Host) -> None:
    made = host.watch(FakeBackend(count(7, 3), count(8, -3))).snapshot(0)
    assert made.moved == {UNKNOWN.key: (0, 0, 0, 0, 0, 0, 0)}
    # The two do not cancel out in what is in doubt.
    assert made.unnamed == 0
    assert made.reason == "6 pages are mapped by processes that could not be named"


def test_polling_has_no_movements(host: Host) -> None:
    host.proc.process(7)
    made = host.watch(FakeBackend(count(7, 3)._replace(moves=()))).snapshot(0)
    assert made.moved == {}
    assert [h.movements for h in made.owners] == [()]


@pytest.mark.parametrize(("adopted", "told"), [(True, 2), (False, 5)])
def test_what_an_adopted_account_has_moved_before_is_not_told_again(
    host: Host, told: int, *, adopted: bool
) -> None:
    class Adopted(FakeBackend):
        def map_state(self) -> MapState:
            return MapState(1, 16, 4096, kept=True, adopted=adopted)

    host.proc.process(7)
    backend = Adopted(count(7, 3))
    watch = host.watch(backend)
    backend._counts = [count(7, 5)]
    (moves,) = watch.snapshot(0).moved.values()
    assert moves[0] == told


def test_zero_pages_are_the_kernels(host: Host) -> None:
    directory = host.proc.process(7)
    host.proc.process(8, merging=None)
    (directory / "ksm_stat").write_text("ksm_rmap_items 1\nksm_zero_pages 6\nksm_merging_pages 2\n")
    made = host.watch(FakeBackend(count(7, 3), count(8, 2))).snapshot(0)
    assert [p.zero_pages for p in made.largest_first] == [6, None]


def test_rooms_are_of_cgroups_with_a_limit_that_share_pages(host: Host) -> None:
    for pid, cgroup in ((7, "/a/b"), (8, "/a/c"), (9, "/d")):
        host.proc.process(pid, cgroup=cgroup)
    for path, limit in (("a", "max"), ("a/b", "9000"), ("a/c", "5000"), ("d", "7000")):
        directory = host.sys.path / "fs/cgroup" / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory.max").write_text(f"{limit}\n")
        (directory / "memory.current").write_text("1000\n")
    made = host.watch(FakeBackend(count(7, 3), count(8, 1), count(9, 0))).snapshot(0)
    assert made.rooms == {"/a/b": 8000, "/a/c": 4000}
    assert [p.cgroup for p in made.largest_first] == ["/a/b", "/a/c", "/d"]


def test_the_mm_before_an_exec_and_the_one_after_it_are_one_process(host: Host) -> None:
    host.proc.process(7, comm="seven", ticks=5000)
    old = count(7, 0)._replace(account=1, mm=1, moves=(5, 0, 0, 0, 0, 5, 0))
    new = count(7, 12)._replace(account=2, mm=2)
    for counts in ((old, new), (new, old)):
        (process,) = host.watch(FakeBackend(*counts)).snapshot(0).processes
        assert (process.pid, process.mappings) == (7, 12)
        assert process.movements == (17, 0, 0, 0, 0, 5, 0)
        assert (process.confidence, process.read_at) == (Confidence.EXACT, 2.0)


def test_a_process_is_exact_if_all_its_accounts_are(host: Host) -> None:
    host.proc.process(7, comm="seven", ticks=5000)
    doubtful = count(7, 1, exact=False)._replace(account=1, mm=1)
    for counts in ((doubtful, count(7, 12)), (count(7, 12), doubtful)):
        (process,) = host.watch(FakeBackend(*counts)).snapshot(0).processes
        assert (process.mappings, process.confidence) == (13, Confidence.ESTIMATED)


def test_what_tells_that_a_count_may_have_changed(host: Host) -> None:
    host.proc.process(7)
    backend = FakeBackend(count(7, 10))
    watcher = host.watch(backend)
    taken = watcher.snapshot(0.1)
    assert not watcher.moved_since(taken)
    for change in ("totals", "doubt", "run", "mode", "estimated"):
        other, before = FakeBackend(count(7, 10)), taken
        match change:
            case "totals":
                other.totals = lambda: {"merged": 6, "events_lost": 3}  # type: ignore[method-assign]
            case "doubt":
                other.doubt = "events were lost"  # type: ignore[assignment]
            case "run":
                other.run.see(2)
            case "mode":
                other.mode = Mode.POLL
            case "estimated":
                before = host.watch(FakeBackend(count(7, 10, exact=False))).snapshot(0.1)
        watcher.backend = other
        assert watcher.moved_since(before), change
    # A loss is no movement; the next snapshot shows it.
    quiet = FakeBackend(count(7, 10))
    quiet.totals = lambda: {"merged": 5, "events_lost": 4}  # type: ignore[method-assign]
    watcher.backend = quiet
    assert not watcher.moved_since(taken)


def test_what_moves_while_a_snapshot_is_made_has_moved_since(host: Host) -> None:
    class Moving(FakeBackend):
        merged = 5

        def totals(self) -> dict[str, int]:
            return {"merged": self.merged}

        def counts(self) -> list[Count]:
            """Then a page is merged."""
            self.merged = 6
            return super().counts()

    host.proc.process(7)
    watcher = host.watch(Moving(count(7, 10)))
    assert watcher.moved_since(watcher.snapshot(0.1))
    assert not watcher.moved_since(watcher.snapshot(0.1))


def test_wrong_sums_are_found_and_corrected(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_CHECKED_LOOKS", 3)
    # By difference, however many have changed.
    monkeypatch.setattr(sums, "_FEW", 0)
    for pid in (7, 8):
        host.proc.process(pid)
    backend = FakeBackend(count(7, 3), count(8, 30))
    watch = host.watch(backend)
    watch.snapshot(0)
    totals = watch._sums._totals
    amounts = list(totals._amounts)
    amounts[2] += 5
    totals._amounts = tuple(amounts)
    for mappings, wrong in ((31, 5), (32, 0), (33, 0)):
        backend._counts = [count(7, 3), count(8, mappings)]
        made = watch.snapshot(0)
        assert made.mappings == 3 + mappings + wrong
    assert made.losses["sums_wrong"] == 1


def test_a_configuration_that_was_refused_leaves_the_time_of_the_last_one(host: Host) -> None:
    watch = host.watch(FakeBackend())
    first = watch.snapshot(0).reload
    assert first.successful
    watch.reload_failed()
    assert watch.snapshot(0).reload == Reload(successful=False, taken_at=first.taken_at)
    watch.reload_taken()
    last = watch.snapshot(0).reload
    assert last.successful
    assert last.taken_at > first.taken_at


def test_the_state_of_the_history_is_asked_for_at_each_snapshot(host: Host) -> None:
    watch = host.watch(FakeBackend())
    assert watch.snapshot(0).history is None
    states = [HistoryState(written=1), HistoryState(written=2)]
    watch.follow_history(lambda: states.pop(0))
    assert watch.snapshot(0).history == HistoryState(written=1)
    assert watch.snapshot(0).history == HistoryState(written=2)
