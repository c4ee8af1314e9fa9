"""Which pages ages are kept of, and how long ksmd takes for a scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from ksmwatch.counting.age_sampling import MOST, AgeSampling, ScanLength, next_one_in
from ksmwatch.counting.controls import Controls
from ksmwatch.counting.host import Host
from ksmwatch.probes.age_maps import AgeMaps
from ksmwatch.probes.map_records import AGE_CLASSES, Control, Total
from ksmwatch.probes.maps import Maps
from tests.fakes import Clock


@pytest.mark.parametrize(
    ("now", "least", "used", "lost", "expected"),
    [
        (16, 16, 0.5, False, 16),
        (16, 16, 0.8, False, 32),
        (16, 16, 0.2, True, 32),
        # It has room for twice as many, but no more were wanted.
        (16, 16, 0.0, False, 16),
        (32, 16, 0.1, False, 16),
        (32, 16, 0.2, False, 32),
        (MOST, 16, 0.9, True, MOST),
        # Configured anew.
        (16, 64, 0.0, False, 64),
    ],
)
def test_the_sample_fits_the_maps(
    now: int, least: int, used: float, *, lost: bool, expected: int
) -> None:
    assert next_one_in(now, least, used, lost=lost) == expected


def test_the_sample_does_not_swing() -> None:
    wanted = next_one_in(16, 1, 0.76, lost=False)
    assert next_one_in(wanted, 1, 0.76 / 2, lost=False) == wanted


def seen(*looks: tuple[float, int | None]) -> float | None:
    length = ScanLength()
    for now, scans in looks:
        length.see(now, scans)
    return length.seconds


def test_a_scan_is_as_long_as_the_time_between_two_ends() -> None:
    # The first look comes in the middle of one.
    assert seen((0, 5), (1, 5), (2, 6), (7, 6)) is None
    assert seen((0, 5), (2, 6), (7, 6), (12, 7)) == 10
    assert seen((0, 5), (2, 6), (12, 7), (16, 9)) == 2


def test_a_pause_of_ksmd_belongs_to_no_scan() -> None:
    assert seen((0, 5), (2, 6), (3, None), (60, 6), (70, 7)) is None
    assert seen((0, 5), (2, 6), (12, 7), (13, None), (99, 7), (100, 8), (104, 9)) == 4
    # run=2 begins anew.
    assert seen((0, 5), (2, 6), (3, 0), (4, 1)) is None


class FakeAges(AgeMaps):
    """Maps that are as full as the test says. `done`: what was dropped."""

    def __init__(self) -> None:
        self.quiet = False
        self.full = 0.0
        self.found = {"copied": ((1,) * AGE_CLASSES, 7.5)}
        self.done: list[object] = []

    def used(self) -> float:
        return self.full

    def clear(self) -> None:
        self.done.append("everything")

    def drop_unsampled(self, one_in: int) -> None:
        self.done.append(one_in)

    def ages(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        return self.found


class Told(Maps):
    """What the programs were told last."""

    def __init__(self) -> None:
        self.last = Control(0, 0, 1, 0, 0, 0)

    def control(self, control: Control) -> None:
        self.last = control


class Kernel:
    """All that the sampling depends on."""

    def __init__(self, path: Path) -> None:
        self.clock, self.totals = Clock(), Counter[Total]()
        self.ages, self.told = FakeAges(), Told()
        self.scans = path / "kernel/mm/ksm/full_scans"
        self.scans.parent.mkdir(parents=True)
        host = Host(path, path, self.clock, self.clock, lambda: int(self.clock() * 1e9))
        self.sampling = AgeSampling(
            self.ages, self.totals.__getitem__, Controls(self.told, 0), host
        )
        self.sampling.least = 16

    def tick(self, seconds: float = 1, *, scans: int = 0, run: int = 1) -> None:
        self.scans.write_text(f"{scans}\n")
        self.clock.now += seconds
        self.sampling.tick(run)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    made = Kernel(tmp_path)
    made.sampling.clear()
    made.sampling.begin()
    return made


def test_what_was_noted_before_the_hooks_came_on_is_forgotten(kernel: Kernel) -> None:
    assert kernel.told.last.ages_since == int(kernel.clock() * 1e9)
    assert kernel.told.last.age_mask == 15
    assert kernel.ages.done == ["everything"]


def test_a_lost_event_makes_all_births_doubtful(kernel: Kernel) -> None:
    kernel.tick()
    assert kernel.ages.done == ["everything"]
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.tick()
    kernel.tick()
    # They are real, and go by themselves.
    assert kernel.ages.done == ["everything"]
    assert kernel.told.last.ages_since == int((kernel.clock() - 1) * 1e9)


def test_a_full_map_makes_the_sample_smaller(kernel: Kernel) -> None:
    kernel.tick()
    kernel.ages.full = 0.9
    kernel.totals[Total.AGES_NOTED] += 1
    kernel.tick()
    assert kernel.told.last.age_mask == 15, "not before a minute is over"
    kernel.tick(60)
    assert kernel.told.last.age_mask == 31
    # What a program noted meanwhile is dropped a minute later.
    assert kernel.ages.done[1:] == [32]
    kernel.ages.full = 0.45
    kernel.tick(60)
    assert kernel.ages.done[1:] == [32, 32]
    kernel.tick(600)
    assert kernel.told.last.age_mask == 31
    kernel.totals[Total.AGES_LOST] += 1
    kernel.tick()
    assert kernel.told.last.age_mask == 63


def test_where_map_system_calls_would_stop_hooks_the_sample_stays(kernel: Kernel) -> None:
    kernel.ages.quiet = True
    kernel.ages.full = 1.0
    kernel.totals[Total.AGES_LOST] += 1
    kernel.tick()
    assert kernel.told.last.age_mask == 15
    assert kernel.ages.done == ["everything"]


def test_nothing_is_looked_at_while_nothing_moves(kernel: Kernel) -> None:
    kernel.tick()
    kernel.ages.full = 0.9
    kernel.tick(600)
    assert kernel.told.last.age_mask == 15


def test_the_programs_learn_the_length_of_a_scan(kernel: Kernel) -> None:
    kernel.tick(scans=1)
    kernel.tick(scans=2)
    assert kernel.sampling.state().scan_seconds is None
    kernel.tick(seconds=30, scans=3)
    assert kernel.told.last.scan_ns == 30_000_000_000
    assert kernel.sampling.state().scan_seconds == 30
    # It is remembered while ksmd is stopped.
    kernel.tick(scans=3, run=0)
    assert kernel.sampling.state().scan_seconds == 30


def test_the_state(kernel: Kernel) -> None:
    kernel.totals.update({Total.AGES_NOTED: 9, Total.AGES_WASTED: 3, Total.AGES_MOVED: 2})
    state = kernel.sampling.state()
    assert (state.one_in, state.noted, state.wasted) == (16, 9, 3)
    assert state.unknown == {"unseen": 0, "ambiguous": 0, "moved": 2}
    assert state.reasons["copied"].seconds == 7.5
    assert state.copied.wasted_share == 3 / 9


def test_a_state_that_has_not_changed_is_the_same_object(kernel: Kernel) -> None:
    before = kernel.sampling.state()
    assert kernel.sampling.state() is before
    kernel.totals[Total.AGES_MOVED] += 1
    moved = kernel.sampling.state()
    assert moved.unknown["moved"] == before.unknown["moved"] + 1
    kernel.ages.found = {"copied": ((1,) * AGE_CLASSES, 8.0)}
    assert kernel.sampling.state().reasons["copied"].seconds == 8.0
