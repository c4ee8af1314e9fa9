"""Each alert is provoked by its real cause in the kernel or the daemon; it arrives; it resolves.

What else fires meanwhile is named as well: there may be nothing more.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import oracle, provoke, textfile
from tests.alerts.crowd import Crowd
from tests.alerts.shorten import shortened, whole_slowness
from tests.alerts.station import DEADLINE_SECONDS, Station, Watched
from tests.fleet.guest import place
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.kernel.damage import MERGED, PINS, change_account
from tests.ksmctl import Ksm
from tests.prometheus import node_exporter
from tests.slowness import patience
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

pytestmark = pytest.mark.timeout(patience(1800))

KPROBES = Path("/sys/kernel/debug/kprobes/enabled")
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
HUGE = 2 << 20
PINNED = f"--state.pin-path={PINS}"
# The daemon must be this old before its losses count: 18 minutes by the rules.
GROWN_UP_SECONDS = shortened(18 * 60, whole_slowness())
HOST = "host"


@pytest.fixture(scope="module")
def host(station: Station) -> Iterator[Daemon]:
    """The daemon of most tests, which has been running for a while."""
    began = time.monotonic()
    with Daemon(PINNED, "--audit.cpu-percent=20", "--probes=fentry") as daemon:
        station.watch(HOST, daemon.port)
        time.sleep(max(0.0, began + GROWN_UP_SECONDS - time.monotonic()))
        yield daemon
        station.forget(HOST)
        assert daemon.stop() == 0


@pytest.fixture
def seen(station: Station, host: Daemon) -> Iterator[Watched]:
    """Notices about it."""
    with Watched(station, HOST) as seen:
        yield seen


@contextmanager
def another(station: Station, instance: str, *options: str) -> Iterator[Watched]:
    """A daemon with options of its own."""
    with Daemon(*options) as daemon:
        station.watch(instance, daemon.port)
        with Watched(station, instance) as seen:
            yield seen
        station.forget(instance)
        daemon.stop()


# ---- KSM ----


# The one of these that `make test` runs too.
@pytest.mark.once
def test_mappings_that_the_kernel_left(seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        left = provoke.not_mergeable(load, ksm)
        ksm.unmerge()
        notice = seen.fires("KsmMappingsLeftAfterUnmerge")
        assert notice.annotations["description"].endswith("Pages: 1.")
        left.child.kill()
        seen.resolves("KsmMappingsLeftAfterUnmerge")


def test_mappings_that_nobody_could_read_after_unmerging(station: Station, ksm: Ksm) -> None:
    alerts = ("KsmUnmergeUnfinished", "KsmwatchEstimatedTooLong")
    with Daemon("--audit.heal=false") as daemon, Workload() as load:
        station.watch("unread", daemon.port)
        with Watched(station, "unread") as seen:
            left = provoke.not_mergeable(load, ksm)
            # Not before it is awake: then it reads every process, whatever it may not correct.
            assert not settled_snapshot(daemon)["asleep"]
            # In doubt since its fork.
            late = left.parent.fork("late")
            ksm.unmerge()
            seen.fires(*alerts)
            for tenant in (late, left.child, left.parent):
                tenant.kill()
            seen.resolves(*alerts)
        station.forget("unread")


def test_pages_that_a_stopped_ksm_keeps(seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        mergeable(load, "a", 211)
        ksm.merge_all()
        seen.fires("KsmPagesKept")
        ksm.unmerge()
        seen.resolves("KsmPagesKept")


def memory_available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def test_unmerging_that_would_not_fit(seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        mergeable(load, "a", 70_001)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 500)
        # Reserved for another process: 240 MiB stay, and 273 would be needed.
        HUGE_PAGES.write_text(str((memory_available() - (240 << 20)) // HUGE))
        try:
            seen.fires("KsmUnmergeWouldNotFit")
        finally:
            HUGE_PAGES.write_text("0")
        seen.resolves("KsmUnmergeWouldNotFit")


def test_ksm_that_is_not_worth_it(seen: Watched, ksm: Ksm) -> None:
    alerts = ("KsmCostsMoreThanItSaves", "KsmdCpuPerByteHigh")
    with Workload() as load:
        # Nothing is equal, and ksmd keeps 64 bytes for each page of each process.
        parent = load.spawn("parent")
        parent.offer("heap", 16384, seed=3, modulo=0)
        for n in range(18):
            parent.fork(f"child-{n}")
        ksm.start()
        seen.fires(*alerts)
        ksm.stop()
        seen.resolves(*alerts)


def test_a_storm_of_copies_on_write(seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        tenant = mergeable(load, "a", 60_000)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 500)
        for first in range(0, 60_000, 1000):
            tenant.write("heap", first, 1000)
            time.sleep(0.4 * whole_slowness())
        seen.fires("KsmCowBreakStorm")
        seen.resolves("KsmCowBreakStorm")


def test_merges_that_do_not_last(station: Station) -> None:
    # A full scan takes as long as the pause after it. Pages merge and are written to within it.
    pause = 3 * whole_slowness()
    with (
        another(station, "worn", "--ages.one-in=1") as seen,
        Ksm(pages_to_scan=100_000, sleep_millisecs=pause * 1000) as ksm,
        Workload() as load,
    ):
        tenant = load.spawn("a")
        tenant.map("heap", 2003)
        tenant.madvise("heap", 0, 2003, "mergeable")
        ksm.start()
        until = time.monotonic() + patience(DEADLINE_SECONDS)
        while time.monotonic() < until and seen.quiet("KsmMergesDoNotLast"):
            tenant.fill("heap", 0, 2003, seed=2, modulo=7)
            wait_until(
                lambda: oracle.process(tenant.pid) > 1900,
                "nothing merges",
                seconds=DEADLINE_SECONDS,
                every=0.1,
            )
        seen.fires("KsmMergesDoNotLast")
        ksm.stop()
        seen.resolves("KsmMergesDoNotLast")


def test_merging_that_stands_still(seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        mergeable(load, "a", 211)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 3_600_000)
        seen.fires("KsmMergingStalled")
        ksm.write("sleep_millisecs", 100)
        seen.resolves("KsmMergingStalled")


def test_a_limit_of_sharing_that_was_reached(seen: Watched) -> None:
    with Ksm(max_page_sharing=2) as ksm, Workload() as load:
        mergeable(load, "a", 9001)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 500)
        seen.fires("KsmMaxPageSharingReached")
        ksm.unmerge()
        seen.resolves("KsmMaxPageSharingReached")


def test_pages_that_two_tenants_have_in_common(
    station: Station, host: Daemon, ksm: Ksm, tmp_path: Path
) -> None:
    script = textfile.installed(tmp_path, Path(sys.executable).with_name("ksmwatch"))

    def read() -> None:
        file = str(tmp_path / "peers.prom")
        subprocess.run([script, "peers", file, f"--socket={host.socket}"], check=True)

    with Workload() as load, node_exporter(tmp_path) as port:
        for name in ("web", "db"):
            place(
                mergeable(load, name, 211).pid, f"machine.slice/machine-qemu\\x2d1\\x2d{name}.scope"
            )
        ksm.merge_all()
        read()
        with Watched(station, "shared") as seen:
            station.watch("shared", port)
            seen.fires("KsmSharedAcrossTenants")
            ksm.unmerge()
            read()
            seen.resolves("KsmSharedAcrossTenants")
            station.forget("shared")


# ---- the daemon ----


def test_a_daemon_that_was_killed(station: Station, ksm: Ksm) -> None:
    with Daemon() as daemon, Watched(station, "down") as seen:
        station.watch("down", daemon.port)
        daemon.process.kill()
        seen.fires("KsmwatchDown")
        with Daemon() as successor:
            station.watch("down", successor.port)
            seen.resolves("KsmwatchDown")
            station.forget("down")


def test_numbers_that_nobody_renews(
    station: Station, host: Daemon, ksm: Ksm, tmp_path: Path
) -> None:
    def write() -> None:
        # The rest is about the process, of which node_exporter has the same of its own.
        ours = [line for line in host.metrics().splitlines() if "ksmwatch_" in line]
        (tmp_path / "ksmwatch.prom").write_text("\n".join(ours) + "\n")

    write()
    with node_exporter(tmp_path) as port, Watched(station, "stale") as seen:
        station.watch("stale", port)
        seen.fires("KsmwatchStale")
        write()
        seen.resolves("KsmwatchStale")
        station.forget("stale")


def test_polling_where_live_counts_were_expected(station: Station, ksm: Ksm) -> None:
    with Watched(station, "polling") as seen:
        KPROBES.write_text("0")
        try:
            with Daemon("--probes=kprobe") as daemon:
                station.watch("polling", daemon.port)
                seen.fires("KsmwatchPolling")
                KPROBES.write_text("1")
                with Daemon("--probes=kprobe") as successor:
                    station.watch("polling", successor.port)
                    seen.resolves("KsmwatchPolling")
                    station.forget("polling")
        finally:
            KPROBES.write_text("1")


def test_a_configuration_that_is_wrong(station: Station, ksm: Ksm, tmp_path: Path) -> None:
    def reload(text: str) -> None:
        file.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)

    file = tmp_path / "ksmwatch.toml"
    file.write_text("")
    with Daemon(f"--config.file={file}") as daemon:
        station.watch("refused", daemon.port)
        with Watched(station, "refused") as seen:
            reload("[log]\nlevel = 'loud'\n")
            seen.fires("KsmwatchConfigRefused")
            reload("[log]\nlevel = 'info'\n")
            seen.resolves("KsmwatchConfigRefused")
        station.forget("refused")


def test_a_history_on_a_full_disk(station: Station, ksm: Ksm, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)
    history = (f"--history.directory={tmp_path}/history", "--history.interval=1")
    try:
        with another(station, "forgetful", *history) as seen:
            with suppress(OSError), (tmp_path / "something else").open("wb", 0) as file:
                while file.write(bytes(4096)):
                    pass
            seen.fires("KsmwatchHistoryUnwritten")
            (tmp_path / "something else").unlink()
            seen.resolves("KsmwatchHistoryUnwritten")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_probe_that_cannot_be_attached_any_more(host: Daemon, seen: Watched, ksm: Ksm) -> None:
    alerts = ("KsmwatchAttachFailed", "KsmwatchProbeMissing", "KsmwatchSumUnknown")
    # The first that goes on: an attempt that fails there costs least.
    with Crowd("__mmdrop") as crowd, Workload() as load:
        mergeable(load, "a", 211)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 500)
        crowd.fill()
        wait_until(
            lambda: crowd.takes_the_place_of("on_mm_goes", host),
            "the daemon is always quicker",
            seconds=DEADLINE_SECONDS,
            every=1,
        )
        # The loss of the probe is a loss itself.
        seen.fires(*alerts, "KsmwatchEventsLost")
        crowd.leave()
        seen.resolves(*alerts, "KsmwatchEventsLost")


def test_a_count_that_was_wrong(host: Daemon, seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        tenant = mergeable(load, "a", 211)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 500)
        # Read by now: what the first read finds is not drift.
        assert settled_snapshot(host)["host"]["confidence"] == "exact"
        change_account(tenant.pid, MERGED, 7)
        seen.fires("KsmwatchDrift")
        seen.resolves("KsmwatchDrift")


def test_a_map_that_is_full(station: Station, ksm: Ksm) -> None:
    alerts = ("KsmwatchEventsLost", "KsmwatchMapNearlyFull", "KsmwatchSumUnknown")
    with another(station, "full", "--accounts.max=16") as seen, Workload() as load:
        tenants = [mergeable(load, f"t{n}", 53 + n) for n in range(19)]
        time.sleep(GROWN_UP_SECONDS)
        ksm.merge_all(stop=False)
        ksm.write("sleep_millisecs", 500)
        seen.fires(*alerts)
        for tenant in tenants[:10]:
            tenant.kill()
        seen.resolves(*alerts)


def test_repairs_that_do_not_end(seen: Watched, ksm: Ksm) -> None:
    with Workload() as load:
        parent = load.spawn("parent")
        parent.map("heap", 600)
        parent.fill("heap", 0, 600, seed=3, modulo=300)
        # More areas than the walk reaches: 600 of each of 31 relatives, all in the tree of the
        # first.
        for page in range(0, 600, 2):
            parent.madvise("heap", page, 1, "nohugepage")
        for n in range(30):
            parent.fork(f"child-{n}")
        ksm.start()
        for first in range(0, 300, 10):
            parent.madvise("heap", first, 10, "mergeable")
            parent.madvise("heap", first + 300, 10, "mergeable")
            time.sleep(5 * whole_slowness())
        seen.fires("KsmwatchRepairsOften")
        ksm.stop()
        seen.resolves("KsmwatchRepairsOften")
