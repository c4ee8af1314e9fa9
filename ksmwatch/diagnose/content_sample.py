"""Which pages are read whole, and what these say about all: sampling by content. Pure.

Every page has a *print*, a checksum of its first bytes. Prints fall into *buckets*; equal pages
fall into the same one. So a bucket with one page holds no copy, and a sample of buckets has either
all copies of a page or none. Therefore the estimate is unbiased.

The buckets that have at least two pages are divided into *strata* by their size, in powers of two.
Some buckets of each stratum are chosen at random: their part grows with the square root of their
size, which gives the least error for the pages read. Strata of few buckets, which hold the contents
with very many copies, are taken whole, and so is the bucket of pages that begin with zeros.

The estimated quantity is a sum over pages, t(bucket) of at most s(bucket), which is the bucket's
number of pages minus one (or an owner's number of pages in it). S, the sum of s in a stratum, is
known for all buckets, T only for those chosen. The estimate is the ratio estimator
S * T / S(chosen).

Its interval is a 99 % interval: 2.58 standard errors, computed from the residuals
t - s * T / S(chosen), plus the largest error that the sample can miss: where n buckets of N are
chosen, 5.3 N / n of them can differ without one being chosen in one sample of 200. Strata are added
as independent errors are. The interval never leaves the range that was seen for certain.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

# Quantiles: of the normal distribution for 99 of 100, and of nothing seen in 199 of 200 samples.
_Z = 2.576
_UNSEEN = 5.3
# A stratum with at most this many buckets is read whole; of a larger one, at least this many are.
_FEW = 64
_MIN_BITS, _MAX_BITS = 12, 24
# The stratum of the bucket that is always taken.
CERTAIN = 0
# The label of a bucket is a byte: its stratum + 1, with TAKEN if it was chosen. 0: no page of it
# can have a copy.
TAKEN = 0x80
IS_TAKEN = bytes(int(label >= TAKEN) for label in range(256))
# The largest number in a byte. It stands for itself, and for all that are larger.
_MANY = 255


def buckets_for(pages: int) -> int:
    """A power of two: more than eight for each page, as far as memory allows (a byte each)."""
    return 1 << min(max(_MIN_BITS, (8 * pages).bit_length()), _MAX_BITS)


def sorted_in(prints: array[int], buckets: int) -> array[int]:
    """The bucket of each page: the lower bits of its print. For all at once, by bytes."""
    size = prints.itemsize
    raw = bytearray(prints.tobytes())
    for at, mask in enumerate((buckets - 1).to_bytes(size, sys.byteorder)):
        raw[at::size] = raw[at::size].translate(bytes(mask & byte for byte in range(256)))
    return array(prints.typecode, bytes(raw))


class Sizes:
    """How many pages each bucket has. A byte each; what does not fit is kept beside them."""

    def __init__(self, buckets: int) -> None:
        self.small = bytearray(buckets)
        self.more: Counter[int] = Counter()

    def add(self, pages: Iterable[int]) -> None:
        """Count pages, by the bucket of each."""
        small, more = self.small, self.more
        for bucket in pages:
            if (size := small[bucket]) < _MANY:
                small[bucket] = size + 1
            else:
                more[bucket] += 1

    def __getitem__(self, bucket: int) -> int:
        size = self.small[bucket]
        return size + self.more[bucket] if size == _MANY else size

    def of(self, buckets: Sequence[int]) -> list[int]:
        """The sizes of some."""
        found = list(map(self.small.__getitem__, buckets))
        return found if _MANY not in found else [self[bucket] for bucket in buckets]


def count(pages: Iterable[Iterable[int]], buckets: int) -> Sizes:
    """Pages in each bucket, by the bucket of each page."""
    found = Sizes(buckets)
    for some in pages:
        found.add(some)
    return found


def where(labels: bytes | bytearray, byte: int) -> array[int]:
    """Where this byte is."""
    found, at = array("Q"), labels.find(byte)
    while at >= 0:
        found.append(at)
        at = labels.find(byte, at + 1)
    return found


@dataclass(frozen=True)
class Stratum:
    """Buckets of about one size: how many there are, how many `pages`, the `largest` of them."""

    buckets: int
    chosen: int
    pages: int
    largest: int

    @property
    def whole(self) -> bool:
        """Whether all were chosen."""
        return self.chosen == self.buckets


@dataclass(frozen=True)
class ContentSample:
    """What is read whole. `labels`: of all buckets; `chosen`: buckets."""

    labels: bytearray
    strata: Mapping[int, Stratum]
    sizes: Sizes
    chosen: array[int]

    @property
    def whole(self) -> bool:
        """Whether everything is read that can have a copy."""
        return all(stratum.whole for stratum in self.strata.values())

    @property
    def pages(self) -> float:
        """How many pages will be read whole, about."""
        return sum(s.pages * s.chosen / s.buckets for s in self.strata.values())

    def stratum(self, bucket: int) -> int:
        """Of a bucket that can hold a copy."""
        return self.labels[bucket] % TAKEN - 1


_LABELS = bytes(size.bit_length() + 1 if size > 1 else 0 for size in range(_MANY + 1))


def _labelled(sizes: Sizes, certain: int) -> bytearray:
    """Labels by size alone."""
    labels = sizes.small.translate(_LABELS)
    for bucket in sizes.more:
        labels[bucket] = sizes[bucket].bit_length() + 1
    labels[certain] = CERTAIN + 1 if sizes[certain] else 0
    return labels


class Strata:
    """All buckets by their size, before some are chosen. `certain`: one that is always taken."""

    def __init__(self, sizes: Sizes, certain: int) -> None:
        self._sizes = sizes
        self._labels = _labelled(sizes, certain)
        labels = {*range(1, _LABELS[_MANY] + 1), *map(self._labels.__getitem__, sizes.more)}
        found = {label - 1: where(self._labels, label) for label in sorted(labels)}
        self._members = {at: members for at, members in found.items() if members}
        self._pages = {at: sum(sizes.of(members)) for at, members in self._members.items()}

    @property
    def pages(self) -> int:
        """Pages that can have a copy."""
        return sum(self._pages.values())

    def part_for(self, error: float) -> float:
        """The part of the smallest buckets that keeps the error of the sum within `error` pages.

        By the worst case: half of the buckets are all copies, and half have none.
        """
        # Where n of N buckets of s pages are chosen, (N s)**2 / 4 n; n is N * part * sqrt(s).
        variance = sum(
            pages * math.sqrt(pages / len(self._members[at])) / 4
            for at, pages in self._pages.items()
            if len(self._members[at]) > _FEW
        )
        return min(1.0, _Z * _Z * variance / max(error, 1e-9) ** 2)

    def pages_of(self, part: float) -> float:
        """How many pages are read with this part."""
        return sum(
            self._pages[at] * self._chosen(at, part) / len(members)
            for at, members in self._members.items()
        )

    def _chosen(self, at: int, part: float) -> int:
        buckets = len(self._members[at])
        if part >= 1:
            return buckets
        size = self._pages[at] / buckets
        return min(buckets, max(_FEW, math.ceil(buckets * part * math.sqrt(size))))

    def choose(self, part: float, seed: int) -> ContentSample:
        """Choose this part of the buckets, more of larger ones."""
        chance = Random(seed)  # noqa: S311 - of a sample, no secret
        labels, strata, taken = bytearray(self._labels), {}, array("Q")
        for at, members in self._members.items():
            chosen = self._chosen(at, part)
            places = range(len(members))
            for place in chance.sample(places, chosen) if chosen < len(members) else places:
                labels[members[place]] |= TAKEN
                taken.append(members[place])
            largest = max(self._sizes.of(members))
            strata[at] = Stratum(len(members), chosen, self._pages[at], largest)
        return ContentSample(labels, strata, self._sizes, taken)


# ---- what the sample says ----


@dataclass(frozen=True)
class Interval:
    """A number of pages, and where it lies in 99 of 100 samples; all the same if it is exact."""

    value: float
    low: float
    high: float

    @staticmethod
    def exactly(value: float) -> Interval:
        """Without doubt."""
        return Interval(value, value, value)

    def __add__(self, known: float) -> Interval:
        """With what is known exactly."""
        return Interval(self.value + known, self.low + known, self.high + known)

    def more(self, pages: float) -> Interval:
        """The same, if there can be so many more."""
        return Interval(self.value, self.low, self.high + pages)

    @property
    def exact(self) -> bool:
        """Whether nothing was left to chance."""
        return self.low == self.high


@dataclass
class Sums:
    """Of one stratum's chosen buckets: how many can be otherwise, and moments."""

    s: float = 0
    t: float = 0
    ss: float = 0
    st: float = 0
    tt: float = 0

    def add(self, s: float, t: float) -> None:
        self.s += s
        self.t += t
        self.ss += s * s
        self.st += s * t
        self.tt += t * t


@dataclass(frozen=True)
class Domain:
    """Whose pages a sum is about: the host's, or an owner's.

    `totals`: S of each stratum. `chosen`: s of each chosen bucket, where it is not 0.
    """

    totals: Mapping[int, float]
    chosen: Mapping[int, float] = field(default_factory=dict)


def host_domain(choice: ContentSample) -> Domain:
    """Of a bucket's pages all but one can be saved."""
    totals = {at: float(s.pages - s.buckets) for at, s in choice.strata.items()}
    sizes = zip(choice.chosen, choice.sizes.of(choice.chosen), strict=True)
    return Domain(totals, {bucket: size - 1.0 for bucket, size in sizes})


def zero_domain(choice: ContentSample) -> Domain:
    """Pages of zeros are in the bucket that is always taken."""
    bucket = choice.labels.find(TAKEN | CERTAIN + 1)
    if bucket < 0:
        return Domain({})
    saved = float(choice.sizes[bucket] - 1)
    return Domain({CERTAIN: saved}, {bucket: saved})


def owner_totals(labels: Iterable[bytes], choice: ContentSample) -> Counter[int]:
    """Of an owner's pages, how many are in each stratum, by the labels of their buckets."""
    found: Counter[int] = Counter()
    for some in labels:
        for at in choice.strata:
            found[at] += some.count(at + 1) + some.count(at + 1 | TAKEN)
    return +found


def estimate(found: Mapping[int, float], domain: Domain, choice: ContentSample) -> Interval:
    """The sum over all buckets. `found`: the result for the chosen ones."""
    sums: dict[int, Sums] = {}
    for bucket, s in domain.chosen.items():
        sums.setdefault(choice.stratum(bucket), Sums()).add(s, found.get(bucket, 0.0))
    value = low = high = 0.0
    square = 0.0
    for at, stratum in choice.strata.items():
        total = domain.totals.get(at, 0.0)
        each = sums.get(at, Sums())
        ratio = each.t / each.s if each.s else 0.0
        if stratum.whole:
            value, low, high = value + each.t, low + each.t, high + each.t
            continue
        value += ratio * total
        low += each.t
        high += total - (each.s - each.t)
        square += _square_error(each, stratum, total, ratio)
    error = math.sqrt(square)
    return Interval(value, max(low, value - error), min(high, value + error))


def _square_error(sums: Sums, stratum: Stratum, total: float, ratio: float) -> float:
    """Of a stratum that was not taken whole."""
    n, buckets = stratum.chosen, stratum.buckets
    residuals = max(0.0, sums.tt - 2 * ratio * sums.st + ratio * ratio * sums.ss)
    variance = buckets * buckets * (1 - n / buckets) * residuals / max(1, n - 1) / n
    unseen = min(total, _UNSEEN * buckets / n * min(total, stratum.largest))
    return _Z * _Z * variance + unseen * unseen


def unread(domain: Domain) -> Interval:
    """What is known before any page was read whole: no more than prints allow."""
    return Interval(0.0, 0.0, sum(domain.totals.values()))


def pieces(places: Iterator[int], step: int, most: int) -> Iterator[tuple[int, int]]:
    """(first, count) of runs of places that are `step` apart, each of at most `most` places."""
    first, size = -1, 0
    for place in places:
        if size and (place != first + size * step or size == most):
            yield first, size
            size = 0
        if not size:
            first = place
        size += 1
    if size:
        yield first, size


def batches(runs: Iterable[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """Some runs at once, with the wanted number of places or a little more."""
    batch: list[tuple[int, int]] = []
    size = 0
    for run in runs:
        batch.append(run)
        size += run[1]
        if size >= most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
