"""Sampling by content: what is chosen, and that the interval holds the truth."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.diagnose import content_sample
from ksmwatch.diagnose.content_sample import (
    CERTAIN,
    TAKEN,
    ContentSample,
    Domain,
    Interval,
    Strata,
    buckets_for,
    count,
    estimate,
    host_domain,
    owner_totals,
    pieces,
    sorted_in,
    unread,
    where,
    zero_domain,
)


@dataclass(frozen=True)
class World:
    """Contents: the print of each, how many copies there are, and how many of them are stable."""

    contents: tuple[tuple[int, int, int], ...]
    buckets: int

    @property
    def prints(self) -> array[int]:
        """Of all pages."""
        return array("I", [print_ for print_, copies, _ in self.contents for _ in range(copies)])

    @property
    def truth(self) -> int:
        """What merging saves."""
        return sum(max(0, stable - 1) for _, _, stable in self.contents)

    def strata(self) -> Strata:
        """Of all pages."""
        return Strata(count([sorted_in(self.prints, self.buckets)], self.buckets), 0)

    def found(self, choice: ContentSample) -> dict[int, float]:
        """What is saved in the chosen buckets."""
        sums: Counter[int] = Counter()
        for print_, _, stable in self.contents:
            bucket = print_ & (self.buckets - 1)
            if choice.labels[bucket] & TAKEN:
                sums[bucket] += max(0, stable - 1)
        return {bucket: float(saved) for bucket, saved in sums.items()}


def made(copies: list[int], seed: int, *, changing: float = 0.0, buckets: int = 0) -> World:
    """Contents with so many copies each, of which a part changes as a whole."""
    chance = random.Random(seed)
    contents = tuple(
        (chance.getrandbits(32), n, 0 if chance.random() < changing else n) for n in copies
    )
    return World(contents, buckets or buckets_for(sum(copies)))


def skewed(seed: int) -> list[int]:
    """Few contents with very many copies, many with few."""
    chance = random.Random(seed)
    return [int(1 / (1 - chance.random())) for _ in range(5000)]


WORLDS = {
    "pairs": made([1] * 9000 + [2] * 3000, 1),
    "hardly any": made([1] * 15000 + [2] * 60, 2),
    "clones": made([20] * 3000, 3),
    "skewed": made(skewed(4), 5),
    "changing": made([3] * 6000, 6, changing=0.3),
    "crowded": made([1] * 15000 + [3] * 3000, 7, buckets=1 << 12),
    "none": made([1] * 9000, 8),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_interval_holds_the_truth_in_95_of_100_samples(name: str) -> None:
    """It is made for 99."""
    world = WORLDS[name]
    strata, right, values = world.strata(), 0, []
    for seed in range(100):
        choice = strata.choose(1 / 64, seed)
        found = estimate(world.found(choice), host_domain(choice), choice)
        assert 0 <= found.low <= found.value <= found.high
        right += found.low <= world.truth <= found.high
        values.append(found.value)
    assert right >= 95
    # Unbiased: off by less than the error of a hundred samples.
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    assert abs(mean - world.truth) <= 4 * spread / len(values) ** 0.5 + 0.01 * world.truth


@given(
    copies=st.lists(st.integers(1, 40), max_size=60),
    seed=st.integers(0, 99),
    changing=st.sampled_from([0.0, 0.4]),
    buckets=st.sampled_from([0, 16]),
)
def test_what_is_read_whole_is_exact(
    copies: list[int], seed: int, changing: float, buckets: int
) -> None:
    world = made(copies, seed, changing=changing, buckets=buckets)
    choice = world.strata().choose(1.0, seed)
    assert choice.whole
    found = estimate(world.found(choice), host_domain(choice), choice)
    assert found == Interval.exactly(world.truth)
    assert found.exact


def test_a_larger_part_of_larger_buckets_is_read_and_few_are_read_whole() -> None:
    world = made([1] * 1000 + [2] * 8000 + [16] * 8000 + [500] * 20, 1)
    choice = world.strata().choose(1 / 64, 0)
    pairs, sixteens, many = choice.strata[2], choice.strata[5], choice.strata[9]
    assert pairs.chosen / pairs.buckets < sixteens.chosen / sixteens.buckets < 1 / 10
    assert many.whole
    assert not choice.whole
    assert choice.pages == pytest.approx(world.strata().pages_of(1 / 64))


def test_the_same_seed_takes_the_same_sample() -> None:
    strata = WORLDS["pairs"].strata()
    assert strata.choose(0.1, 5).labels == strata.choose(0.1, 5).labels
    assert strata.choose(0.1, 5).labels != strata.choose(0.1, 6).labels


@pytest.mark.parametrize("name", WORLDS)
def test_the_precision_that_is_wanted_is_reached(name: str) -> None:
    world = WORLDS[name]
    strata = world.strata()
    wanted = 0.05 * len(world.prints)
    choice = strata.choose(strata.part_for(wanted), 1)
    found = estimate(world.found(choice), host_domain(choice), choice)
    # What no sample shows comes on top.
    assert found.high - found.value <= 2 * wanted
    assert abs(found.value - world.truth) <= wanted


def test_the_bucket_of_zeros_is_taken_even_with_one_page() -> None:
    strata = Strata(count([array("I", [7, 8, 8])], 16), 7)
    choice = strata.choose(0.001, 0)
    assert choice.labels[7] == TAKEN | CERTAIN + 1
    assert choice.stratum(7) == CERTAIN
    assert strata.pages == 3
    assert zero_domain(choice) == Domain({CERTAIN: 0.0}, {7: 0.0})
    labels = bytes(choice.labels[bucket] for bucket in (7, 7, 8, 9))
    assert owner_totals([labels[:1], labels[1:]], choice) == {CERTAIN: 2, 2: 1}


def test_an_owner_of_whom_nothing_was_chosen_has_an_interval_all_the_same() -> None:
    world = WORLDS["pairs"]
    choice = world.strata().choose(1 / 64, 0)
    found = estimate({}, Domain({2: 10.0}), choice)
    assert found == Interval(0, 0, 10)


def test_before_anything_is_read_whole_prints_are_the_bound() -> None:
    world = WORLDS["pairs"]
    choice = world.strata().choose(1 / 64, 0)
    found = unread(host_domain(choice))
    assert (found.value, found.low) == (0, 0)
    assert world.truth <= found.high < len(world.prints)


def test_memory_for_buckets_is_bounded() -> None:
    assert buckets_for(0) == 1 << 12
    assert buckets_for(10**12) == 1 << 24
    assert 8 * 10**5 <= buckets_for(10**5) <= 16 * 10**5


def test_pieces_are_runs() -> None:
    assert list(pieces(iter([4, 8, 12, 20, 24]), 4, 2)) == [(4, 2), (12, 1), (20, 2)]
    assert list(pieces(iter([]), 4, 2)) == []


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), max_size=20))
def test_batches_have_all_runs_in_their_order(runs: list[tuple[int, int]]) -> None:
    found = list(content_sample.batches(runs, 10))
    assert [run for batch in found for run in batch] == runs
    sizes = [sum(count for _, count in batch) for batch in found]
    assert all(10 <= size < 20 for size in sizes[:-1])


MANY_SIZES = [0, 1, 2, 3, 4, 7, 8, 254, 255, 256, 511, 512, 70_000]


def test_sizes_are_counted_however_large_they_are() -> None:
    sizes = count([[bucket] * size for bucket, size in enumerate(MANY_SIZES)], 16)
    assert [sizes[bucket] for bucket in range(16)] == [*MANY_SIZES, 0, 0, 0]
    assert sizes.of([12, 3]) == [70_000, 3]
    assert sizes.of([3, 7]) == [3, 254]


def test_strata_are_powers_of_two() -> None:
    sizes = count([[bucket] * size for bucket, size in enumerate(MANY_SIZES)], 16)
    choice = Strata(sizes, 0).choose(1.0, 0)
    assert {at: (s.buckets, s.pages, s.largest) for at, s in choice.strata.items()} == {
        2: (2, 5, 3),
        3: (2, 11, 7),
        4: (1, 8, 8),
        8: (2, 254 + 255, 255),
        9: (2, 256 + 511, 511),
        10: (1, 512, 512),
        17: (1, 70_000, 70_000),
    }
    assert [choice.stratum(bucket) for bucket in (2, 3, 9, 12)] == [2, 2, 9, 17]


@given(st.lists(st.integers(0, (1 << 32) - 1)), st.integers(12, 24))
def test_buckets_are_the_lower_bits_of_prints(prints: list[int], bits: int) -> None:
    found = sorted_in(array("I", prints), 1 << bits)
    assert list(found) == [print_ % (1 << bits) for print_ in prints]


@given(st.binary(), st.integers(0, 255))
def test_where_a_byte_is(labels: bytes, byte: int) -> None:
    assert list(where(labels, byte)) == [at for at, other in enumerate(labels) if other == byte]
