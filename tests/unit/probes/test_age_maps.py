"""The maps of ages, on maps that are dictionaries."""

from __future__ import annotations

import struct
from typing import cast

import pytest

from ksmwatch.kernel import bpf_maps
from ksmwatch.probes import age_maps
from ksmwatch.probes.age_maps import AgeMaps, is_sampled
from ksmwatch.probes.map_records import AGE_CLASSES, AGES_ROOM
from ksmwatch.probes.mapped_memory import Mapped

_HELD = 3 * (AGE_CLASSES + 1)
_FIRST = 0xFFFFEA0000000000


class Table:
    """A hash map."""

    fd = -1

    def __init__(self, key_size: int) -> None:
        self.key_size = key_size
        self.data: dict[bytes, bytes] = {}

    def dump(self) -> tuple[bytes, bytes]:
        return b"".join(self.data), b"".join(self.data.values())

    def delete(self, key: bytes) -> bool:
        return self.data.pop(key, None) is not None


class Ages:
    """The maps with some contents."""

    def __init__(self) -> None:
        self.frames, self.holds = Table(8), Table(16)
        self.words = memoryview(bytearray(8 * AGES_ROOM * 3)).cast("Q")
        frames, holds = (cast("bpf_maps.Map", each) for each in (self.frames, self.holds))
        self.maps = AgeMaps(frames, holds, cast("Mapped", self), quiet=False)

    @property
    def data(self) -> bytes:
        return self.words.tobytes()

    def note(self, page: int, mm: int) -> None:
        self.frames.data[struct.pack("<Q", page)] = struct.pack("<3Q", 1, 0, 0)
        self.words[_HELD] += 1
        self.holds.data[struct.pack("<2Q", page, mm)] = struct.pack("<3Q", 1, 5, 5)


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> Ages:
    monkeypatch.setattr(age_maps, "fdinfo", lambda _, __: "64")
    return Ages()


def test_ages_are_added_up_over_the_cpus(ages: Ages) -> None:
    # The first class of copies, and the last of exits; each with its sum.
    ages.words[0], ages.words[AGES_ROOM] = 3, 4
    ages.words[AGE_CLASSES] = 1_500_000_000
    last = 3 * (AGE_CLASSES + 1) - 1
    ages.words[2 * AGES_ROOM + last - 1], ages.words[2 * AGES_ROOM + last] = 7, 2_000_000_000
    none = (0,) * AGE_CLASSES
    assert ages.maps.ages() == {
        "copied": ((7, *none[1:]), 1.5),
        "unmapped": (none, 0.0),
        "exited": ((*none[1:], 7), 2.0),
    }


def test_ages_that_have_not_changed_are_not_added_up_again(ages: Ages) -> None:
    ages.words[0] = 3
    before = ages.maps.ages()
    assert ages.maps.ages() is before
    ages.words[2 * AGES_ROOM] = 1
    assert ages.maps.ages()["copied"][0][0] == 4
    assert before["copied"][0][0] == 3


def test_how_full_they_are(ages: Ages) -> None:
    for n in range(16):
        ages.note(_FIRST + 64 * n, 1)
    assert ages.maps.used() == 0.25
    # Another CPU takes some of them out.
    ages.words[AGES_ROOM + _HELD] = (1 << 64) - 8
    assert ages.maps.used() == 0.125


def test_pages_that_nobody_looks_at_are_dropped(ages: Ages) -> None:
    for n in range(1000):
        ages.note(_FIRST + 64 * n, n % 3)
    ages.maps.drop_unsampled(8)
    pages = {page for (page,) in map(struct.Struct("<Q").unpack, ages.frames.data)}
    assert pages == {p for p, _ in map(struct.Struct("<2Q").unpack, ages.holds.data)}
    assert all(is_sampled(page, 8) for page in pages)
    assert len(pages) == sum(is_sampled(_FIRST + 64 * n, 8) for n in range(1000))
    assert ages.maps.used() == len(pages) / 64
    ages.maps.clear()
    assert ages.maps.used() == 0
    assert ages.frames.data == ages.holds.data == {}


@pytest.mark.parametrize("one_in", [1, 2, 16, 1024])
def test_a_sample_is_about_as_large_as_it_should_be(one_in: int) -> None:
    pages = 1 << 16
    found = sum(is_sampled(_FIRST + 64 * n, one_in) for n in range(pages))
    assert abs(found - pages / one_in) <= 0.1 * pages / one_in + 1


def test_a_smaller_sample_is_part_of_a_larger_one() -> None:
    pages = [_FIRST + 64 * n for n in range(5000)]
    assert all(is_sampled(page, 16) for page in pages if is_sampled(page, 64))
