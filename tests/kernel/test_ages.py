"""How long mappings last: every number follows from what the test does, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.counting.ages import BOUNDS
from tests import oracle
from tests.fuzz import swap
from tests.fuzz.fuzz import settings_of
from tests.fuzz.generator import Generator
from tests.kernel import age_tables
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.slowness import patience
from tests.waiting import wait_until
from tests.workload import Tenant, Workload

PINS = Path("/sys/fs/bpf/ksmwatch-ages")
_PAGES = 61
_WAIT_SECONDS = 480


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon that keeps the age of every page."""
    with Daemon(f"--state.pin-path={PINS}", "--probes=fentry", "--ages.one-in=1") as daemon:
        yield daemon
        assert daemon.stop() == 0


def tenant(load: Workload, name: str, seed: int = 5, modulo: int = 0) -> Tenant:
    """A process that maps each of its pages once, if no content comes twice."""
    made = load.spawn(name)
    made.offer("heap", _PAGES, seed=seed, modulo=modulo)
    return made


def awake(daemon: Daemon, ksm: Ksm) -> None:
    """Returns when hooks see everything that ksmd does from now on. It scans already."""
    ksm.start()
    wait_until(lambda: not daemon.snapshot()["asleep"], lambda: "", seconds=_WAIT_SECONDS)


def ages(daemon: Daemon) -> dict[str, Any]:
    """What the snapshot says of ages on the host."""
    found: dict[str, Any] = daemon.snapshot()["host"]["ages"]
    return found


@dataclass
class Span:
    """When something happened, from outside."""

    begin: float = field(default_factory=time.monotonic)
    end: float = 0.0


@contextmanager
def timed() -> Iterator[Span]:
    """The time around a block."""
    span = Span()
    yield span
    span.end = time.monotonic()


def class_of(age: float) -> int:
    """Which class an age belongs to."""
    return next((at for at, bound in enumerate(BOUNDS) if age < bound), len(BOUNDS))


@dataclass
class Ended:
    """Mappings that ended for a reason: how many, when they began, and when they ended."""

    why: str
    number: int
    born: Span
    ended: Span

    @property
    def ages(self) -> tuple[float, float]:
        """The lowest and the highest age that they can have."""
        return self.ended.begin - self.born.end, self.ended.end - self.born.begin


def assert_counted(before: dict[str, Any], after: dict[str, Any], expected: list[Ended]) -> None:
    """These have ended in between, and nothing else. Their ages are what they can be."""
    for why in ("copied", "unmapped", "exited"):
        ended = [each for each in expected if each.why == why]
        old, new = before["reasons"][why], after["reasons"][why]
        counts = [n - o for o, n in zip(old["counts"], new["counts"], strict=True)]
        assert sum(counts) == sum(each.number for each in ended), (why, counts, ended)
        classes = {
            at for each in ended for at in range(class_of(each.ages[0]), class_of(each.ages[1]) + 1)
        }
        assert {at for at, n in enumerate(counts) if n} <= classes, (why, counts, ended)
        for each in ended:
            low, high = map(class_of, each.ages)
            assert sum(counts[low : high + 1]) >= each.number, (why, counts, each)
        seconds = new["seconds"] - old["seconds"]
        least, most = (sum(each.number * each.ages[end] for each in ended) for end in (0, 1))
        # Prometheus's sum is in nanoseconds, halved twice.
        assert least <= seconds + 1e-6
        assert seconds <= most + 1e-6


def unknown(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Departures without an age in between."""
    found = {why: n - before["unknown"][why] for why, n in after["unknown"].items()}
    return {why: n for why, n in found.items() if n}


def test_each_mapping_that_ends_has_its_age(daemon: Daemon, ksm: Ksm) -> None:
    awake(daemon, ksm)
    with Workload() as load:
        with timed() as born:
            a, b, c = (tenant(load, name) for name in "abc")
            ksm.merge_all()
        before = ages(daemon)
        with timed() as first:
            a.write("heap", 0, 7)
        time.sleep(3)
        with timed() as second:
            a.write("heap", 7, 17)
            b.munmap("heap", 0, 13)
            c.exit()
        after = ages(daemon)
        expected = [
            Ended("copied", 7, born, first),
            Ended("copied", 17, born, second),
            Ended("unmapped", 13, born, second),
            Ended("exited", _PAGES, born, second),
        ]
        assert_counted(before, after, expected)
        assert unknown(before, after) == {}
        # All copies are of one owner, and more than half of the second kind.
        document = daemon.snapshot()
        (who,) = (p["owner"]["id"] for p in document["processes"] if p["pid"] == a.pid)
        (owner,) = (o for o in document["owners"] if o["id"] == who)
        low, high = (class_of(age) for age in expected[1].ages)
        assert low <= class_of(owner["median_age_seconds"]) <= high
        assert b'ksmwatch_mapping_age_seconds_bucket{le="+Inf",reason="exited"}' in (
            daemon.metrics().encode()
        )


def test_the_table_is_that_of_the_page_tables(daemon: Daemon, ksm: Ksm) -> None:
    awake(daemon, ksm)
    with Workload() as load:
        a, b = tenant(load, "a"), tenant(load, "b")
        equal = tenant(load, "equal", seed=9, modulo=3)
        ksm.merge_all()
        found = age_tables.read(PINS)
        first = age_tables.first_page(found, a.pid, oracle.frames(a.pid, a.address("heap"), _PAGES))
        assert list(age_tables.faults(found, first)) == []
        numbers = [n for (_, mm), n in found.holds.items() if found.owners[mm].pid == equal.pid]
        assert sum(numbers) == _PAGES
        a.write("heap", 0, 5)
        b.munmap("heap", 3, 4)
        equal.write("heap", 0, 10)
        found = age_tables.read(PINS)
        assert list(age_tables.faults(found, first)) == []
        # Of `a` and `b`: two pages have lost both, so their entries have gone.
        assert sum(found.holds.values()) == 3 * _PAGES - 5 - 4 - 10
    found = age_tables.read(PINS)
    assert (found.frames, found.holds) == ({}, {})


def test_what_was_not_seen_to_come_has_no_age(daemon: Daemon, ksm: Ksm) -> None:
    awake(daemon, ksm)
    with Workload() as load:
        with timed() as born:
            a = tenant(load, "a")
            tenant(load, "b")
            ksm.merge_all()
        before = ages(daemon)
        child = a.fork("child")
        with timed() as ended:
            child.write("heap", 0, 11)
            a.write("heap", 0, 3)
        child.exit()
        after = ages(daemon)
        assert_counted(before, after, [Ended("copied", 3, born, ended)])
        assert unknown(before, after) == {"unseen": _PAGES}


def test_several_mappings_of_one_page_have_ages_only_if_they_are_alike(
    daemon: Daemon, ksm: Ksm
) -> None:
    awake(daemon, ksm)
    with Workload() as load:
        with timed() as born:
            a = tenant(load, "a", modulo=1)
            ksm.merge_all()
        time.sleep(2)
        before = ages(daemon)
        with timed() as ended:
            a.write("heap", 0, 19)
        after = ages(daemon)
        copied = [sum(each["reasons"]["copied"]["counts"]) for each in (before, after)]
        doubtful = unknown(before, after).get("ambiguous", 0)
        low, high = Ended("copied", 19, born, ended).ages
        assert copied[1] - copied[0] + doubtful == 19
        if class_of(low) == class_of(high):
            assert doubtful == 0


def test_merges_that_a_write_undoes_within_a_scan_are_wasted(daemon: Daemon) -> None:
    # One round, and then a pause: a full scan takes a little longer than that.
    pause = patience(6)
    with (
        Ksm(pages_to_scan=100_000, sleep_millisecs=int(pause * 1000)) as ksm,
        Workload() as load,
    ):
        known = daemon.snapshot()["host"]["ages"]["scan_seconds"]
        # Something must be there to be scanned.
        tenant(load, "filler", seed=77, modulo=7)
        ksm.start()
        wait_until(
            lambda: pause <= (ages(daemon)["scan_seconds"] or 0) < 2 * pause,
            lambda: f"a scan took {known}, and now {ages(daemon)['scan_seconds']}",
            seconds=_WAIT_SECONDS,
        )
        before = ages(daemon)
        a, b = tenant(load, "a"), tenant(load, "b")
        born = Span()

        def merged() -> bool:
            now = time.monotonic()
            if ages(daemon)["noted_merges"] - before["noted_merges"] < 2 * _PAGES:
                born.begin = now
                return False
            born.end = time.monotonic()
            return True

        wait_until(merged, lambda: str(ages(daemon)), seconds=_WAIT_SECONDS, every=0.05)
        a.write("heap", 0, 7)
        young = time.monotonic() - born.begin
        first = ages(daemon)
        takes = first["scan_seconds"]
        assert young < takes, f"the guest is too slow: {young} of {takes} s"
        ksm.stop()
        time.sleep(takes + 1)
        b.write("heap", 20, 11)
        after = ages(daemon)
        assert after["noted_merges"] - before["noted_merges"] == 2 * _PAGES
        assert first["wasted_merges"] - before["wasted_merges"] == 7
        assert after["wasted_merges"] - before["wasted_merges"] == 7


def test_no_entry_is_left_by_a_random_program(daemon: Daemon) -> None:
    seed, operations, pauses = 7, 2000, 0
    with swap.ready(), Ksm(**settings_of(seed)) as ksm, Workload() as load:
        awake(daemon, ksm)
        a, b = tenant(load, "ruler", seed=70), tenant(load, "other", seed=70)
        ksm.merge_all(stop=False)
        frames = oracle.frames(a.pid, a.address("heap"), _PAGES)
        first = age_tables.first_page(age_tables.read(PINS), a.pid, frames)
        noted = 0
        with Generator(seed, operations, 500) as generator:
            for pause in generator:
                pauses += 1
                found = age_tables.read(PINS)
                noted = max(noted, sum(found.holds.values()))
                print(pause.operations, len(found.frames), sum(found.holds.values()))
                assert list(age_tables.faults(found, first)) == []
        assert pauses > 2
        assert noted > 2 * _PAGES
        a.exit()
        b.exit()
        found = age_tables.read(PINS)
        assert (found.frames, found.holds) == ({}, {})
    totals = daemon.snapshot()["totals"]
    print({name: n for name, n in totals.items() if name.startswith("ages")})
    assert totals["ages_lost"] == 0


def test_ages_that_are_not_wanted_are_not_kept(ksm: Ksm) -> None:
    pins = Path("/sys/fs/bpf/ksmwatch-ageless")
    with Daemon(f"--state.pin-path={pins}", "--ages.one-in=0") as daemon, Workload() as load:
        awake(daemon, ksm)
        a = tenant(load, "a")
        tenant(load, "b")
        ksm.merge_all()
        a.write("heap", 0, 7)
        (count,) = (p["mappings"] for p in daemon.snapshot()["processes"] if p["pid"] == a.pid)
        assert count == _PAGES - 7
        host = daemon.snapshot()["host"]
        assert (host["ages"], host["ages_reason"]) == (None, "--ages.one-in=0")
        metrics = daemon.metrics()
        assert "ksmwatch_mapping_age_seconds" not in metrics
        assert "ksmwatch_mapping_ages_one_in 0.0" in metrics.splitlines()
        assert {path.name for path in pins.iterdir()} & {
            "map-ages",
            "map-frames",
            "map-holds",
        } == set()
        assert daemon.stop() == 0
