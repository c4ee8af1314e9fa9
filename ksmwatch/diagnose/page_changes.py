"""Whether pages change: reads some mergeable pages of a process twice through /proc/PID/mem.

Only digests are compared; no content is kept. Pages that are not present are not read, because
that would bring them in.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ksmwatch.diagnose.evidence import PageSample
from ksmwatch.digests import blake2b
from ksmwatch.units import PAGE_SIZE

_PRESENT = 1 << 63

# Addresses from the first to before the second.
Range = tuple[int, int]


@dataclass
class _Reader:
    """One process: the chosen pages, and their digests."""

    mem: int
    pagemap: int
    digests: dict[int, bytes] = field(default_factory=dict)

    def digest(self, address: int) -> bytes | None:
        """The digest of a page, None if it is not present."""
        entry = os.pread(self.pagemap, 8, address // PAGE_SIZE * 8)
        if not int.from_bytes(entry, "little") & _PRESENT:
            return None
        page = os.pread(self.mem, PAGE_SIZE, address)
        return blake2b(page, digest_size=16).digest()

    def close(self) -> None:
        os.close(self.mem)
        os.close(self.pagemap)


def _open(directory: Path) -> _Reader:
    mem = os.open(directory / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _Reader(mem, os.open(directory / "pagemap", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        os.close(mem)
        raise


def choose(ranges: Iterable[Range], count: int) -> list[int]:
    """Choose different pages of some ranges at random; all if there are fewer."""
    sizes = [(start, (end - start) // PAGE_SIZE) for start, end in ranges]
    total = sum(pages for _, pages in sizes)
    # The same pages every time, so that a result can be reproduced.
    places = sorted(random.Random(0).sample(range(total), min(count, total)))  # noqa: S311
    return list(_addresses(sizes, places))


def _addresses(sizes: list[tuple[int, int]], places: list[int]) -> Iterator[int]:
    before, at = 0, iter(sizes)
    start, pages = next(at, (0, 0))
    for place in places:
        while place >= before + pages:
            before += pages
            start, pages = next(at)
        yield start + (place - before) * PAGE_SIZE


def take(
    processes: Iterable[tuple[Path, list[Range]]],
    count: int,
    seconds: float,
    sleep: Callable[[float], object] = time.sleep,
) -> PageSample | None:
    """Sample this many pages of each process (its directory in /proc); None if none may be read."""
    readers: list[_Reader] = []
    try:
        for directory, ranges in processes:
            try:
                reader = _open(directory)
            except OSError:
                continue
            readers.append(reader)
            for address in choose(ranges, count):
                _note(reader, address)
        if not any(reader.digests for reader in readers):
            return None
        sleep(seconds)
        return _compare(readers, seconds)
    finally:
        for reader in readers:
            reader.close()


def _note(reader: _Reader, address: int) -> None:
    try:
        digest = reader.digest(address)
    except OSError:
        return
    if digest is not None:
        reader.digests[address] = digest


def _compare(readers: list[_Reader], seconds: float) -> PageSample | None:
    pages = changed = 0
    copies: Counter[bytes] = Counter()
    for reader in readers:
        for address, before in reader.digests.items():
            try:
                now = reader.digest(address)
            except OSError:
                continue
            if now is not None:
                pages += 1
                changed += now != before
                copies[now] += now == before
    equal = sum(count for count in copies.values() if count > 1)
    return PageSample(pages, changed, seconds, equal) if pages else None
