"""Reads private pages of processes for an estimate of what merging would save.

Three readings, none of which stops a process or keeps a lock for longer than a piece of a page
table takes. The first looks at the beginning of each page, the second reads those whole that were
chosen by that, and the third reads these again: what has changed would not be merged.

Whatever is read counts only if pagemap says the same of the page before and after.
"""

from __future__ import annotations

import errno
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from pathlib import Path

from ksmwatch.diagnose.anonymous_areas import AnonymousArea, anonymous_areas
from ksmwatch.diagnose.content_sample import ContentSample, batches, pieces, sorted_in
from ksmwatch.diagnose.equal_pages import Copies, Copy
from ksmwatch.digests import blake2b
from ksmwatch.errors import SourceError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.page_content import (
    ContentReading,
    ContentSource,
    PageEntry,
    PageTable,
    Run,
    ZeroPages,
    frame_of,
    is_alone,
    open_page_table,
)
from ksmwatch.kernel.page_frames import Frames
from ksmwatch.units import PAGE_SIZE

# Bytes of each page that decide whether it is read whole.
PART = 64
ZERO_PRINT = zlib.crc32(bytes(PART))
_ZEROS = bytes(PAGE_SIZE)
# Pages at once: of parts, and of whole pages.
_PIECE, _WHOLE_PIECE = 2048, 256
_ZERO = 0
_UNKNOWN = -1
# Of an address, whose low bits say nothing.
_OFFERED, _MERGED = 1, 2


@dataclass(frozen=True)
class Tools:
    """What reads. `frames`: recognises KSM pages; None if there are none, or nothing can do so.

    `why`: why it is not the source that disturbs least; empty if it is.
    """

    proc: Path
    source: ContentSource
    zero_frame: int
    frames: Frames | None
    why: str = ""


@dataclass
class SurveyedProcess:
    """One process, and what was seen of it. `addresses`, `prints` and `buckets` go together.

    Of an address the lowest bits say whether the page is offered, and whether KSM pages are about.
    Prints end where pages are sorted into buckets.
    """

    pid: int
    start_ticks: int
    party: int
    pages: int
    addresses: array[int] = field(default_factory=lambda: array("Q"))
    prints: array[int] = field(default_factory=lambda: array("I"))
    buckets: array[int] = field(default_factory=lambda: array("I"))
    # Frames of KSM pages, as often as it maps them; zero pages that KSM has put.
    merged: array[int] = field(default_factory=lambda: array("Q"))
    zero_pages: int = 0
    # Pages that are offered to KSM.
    offered: int = 0


class Survey:
    """What is known of pages. `left_out`: those that cannot be merged, by the reason.

    `tick` is called every now and then with a number of pages. It may raise, to end a reading;
    what was read by then stays.
    """

    def __init__(self, tools: Tools, tick: Callable[[int], None]) -> None:
        self._tools, self._tick = tools, tick
        self._zero_pages = ZeroPages(tools.proc)
        self.left_out: Counter[str] = Counter()
        # Processes that were not read, or not to the end, and why.
        self.unread: dict[int, str] = {}
        self.processes: list[SurveyedProcess] = []
        self.pages = 0
        # By party: pages that were to be read whole, and those that were the same each time.
        self.whole: Counter[int] = Counter()
        self.same: Counter[int] = Counter()
        # Contents by a digest, and the bucket of each.
        self._contents: dict[bytes, int] = {_ZEROS: _ZERO}
        self.bucket_of: list[int] = []
        self.copies: dict[int, Copies] = {}
        self.party_pages: Counter[tuple[int, int]] = Counter()

    # ---- the first reading ----

    def look(self, process: SurveyedProcess) -> None:
        """Print each page of a process. One that ends meanwhile, or may not be read, is counted."""
        self.processes.append(process)
        with self._noted(process), self._open(process) as (table, reading):
            directory = self._directory(process)
            smaps = (directory / "smaps").read_bytes()
            for area in anonymous_areas(smaps, self.left_out):
                if area.fetched and self._tools.source.faults:
                    self.left_out["userfaultfd"] += (area.end - area.start) // PAGE_SIZE
                else:
                    self._look_at(process, area, table, reading)
            process.zero_pages = max(0, procfs.read_ksm_stat(directory).zero_pages or 0)

    def _look_at(
        self,
        process: SurveyedProcess,
        area: AnonymousArea,
        table: PageTable,
        reading: ContentReading,
    ) -> None:
        bits = _OFFERED * area.offered
        frames = self._tools.frames if area.merged else None
        bits |= _MERGED if frames is not None else 0
        for start in range(area.start, area.end, _PIECE * PAGE_SIZE):
            count = min(_PIECE, (area.end - start) // PAGE_SIZE)
            pages, parts = _read(table, reading, [(start, count)], PART)
            process.addresses.extend(map(bits.__or__, map(itemgetter(0), pages)))
            process.prints.extend(map(zlib.crc32, parts))
            process.offered += len(pages) * area.offered
            if frames is not None:
                merged = frames.ksm({frame_of(page) for page in pages})
                process.merged.extend(f for f in map(frame_of, pages) if f in merged)
            self.pages += len(pages)
            self._tick(len(pages))

    def sort(self, buckets: int) -> None:
        """Sort all pages into this many buckets."""
        for process in self.processes:
            process.buckets = sorted_in(process.prints or process.buckets, buckets)
            process.prints = array("I")

    # ---- the second and the third ----

    def read(self, choice: ContentSample) -> list[array[int]]:
        """Read the chosen pages whole; the number of its content for each, of each process."""
        contents = []
        self.bucket_of = [0] * len(self._contents)
        for process in self.processes:
            found = array("q", [_UNKNOWN]) * len(process.addresses)
            contents.append(found)
            with self._noted(process):
                self._read_one(process, choice, found)
        return contents

    def _read_one(self, process: SurveyedProcess, choice: ContentSample, found: array[int]) -> None:
        mask = len(choice.taken) - 1
        taken = map(choice.taken.__getitem__, process.buckets)
        chosen = list(compress(range(len(process.buckets)), taken))
        for bucket, pages in Counter(map(process.buckets.__getitem__, chosen)).items():
            self.party_pages[bucket, process.party] += pages
        self.whole[process.party] += len(chosen)
        for at, _, page in self._whole(process, chosen):
            bucket = process.buckets[at]
            if zlib.crc32(page[:PART]) & mask == bucket:
                found[at] = self._number(page, bucket)

    def _number(self, page: bytes, bucket: int) -> int:
        key = page if page == _ZEROS else blake2b(page, digest_size=16).digest()
        number = self._contents.setdefault(key, len(self._contents))
        if number == len(self.bucket_of):
            self.bucket_of.append(bucket)
        elif number == _ZERO:
            self.bucket_of[_ZERO] = bucket
        return number

    def compare(self, contents: list[array[int]]) -> None:
        """Read them again, and take as copies those that are the same still."""
        for process, before in zip(self.processes, contents, strict=True):
            chosen = [at for at, content in enumerate(before) if content != _UNKNOWN]
            with self._noted(process):
                for at, pages, page in self._whole(process, chosen):
                    key = page if page == _ZEROS else blake2b(page, digest_size=16).digest()
                    if self._contents.get(key) == before[at]:
                        self._take(process, at, before[at], pages)

    def _take(self, process: SurveyedProcess, at: int, content: int, page: _Seen) -> None:
        """A copy of a content."""
        entry, merged = page
        self.same[process.party] += 1
        if content == _ZERO and not is_alone(entry) and self._zero_pages.has(frame_of(entry)):
            return
        offered = bool(process.addresses[at] & _OFFERED)
        copy = Copy(process.party, offered, merged)
        frame = None if is_alone(entry) else frame_of(entry)
        self.copies.setdefault(content, Copies()).add(copy, frame)

    def _whole(
        self, process: SurveyedProcess, chosen: list[int]
    ) -> Iterator[tuple[int, _Seen, bytes]]:
        """Whole pages: places in `addresses`, what page tables say, contents."""
        if not chosen:
            return
        addresses = process.addresses
        place = {addresses[at] & -PAGE_SIZE: at for at in chosen}
        with self._open(process) as (table, reading):
            runs = pieces(iter(place), PAGE_SIZE, _WHOLE_PIECE)
            for batch in batches(runs, _WHOLE_PIECE):
                pages, contents = _read(table, reading, batch, PAGE_SIZE)
                merged = self._merged([p for p in pages if addresses[place[p[0]]] & _MERGED])
                for page, content in zip(pages, contents, strict=True):
                    yield place[page[0]], (page, frame_of(page) in merged), content
                self._tick(sum(count for _, count in batch))

    def _merged(self, pages: list[PageEntry]) -> set[int]:
        """Frames of KSM pages among pages that may be."""
        if not pages or self._tools.frames is None:
            return set()
        return self._tools.frames.ksm({frame_of(page) for page in pages})

    # ---- all of them ----

    def _directory(self, process: SurveyedProcess) -> Path:
        return self._tools.proc / str(process.pid)

    @contextmanager
    def _open(self, process: SurveyedProcess) -> Iterator[tuple[PageTable, ContentReading]]:
        directory = self._directory(process)
        with ExitStack() as stack:
            table = stack.enter_context(open_page_table(directory, self._tools.zero_frame))
            reading = stack.enter_context(self._tools.source.open(directory))
            if procfs.read_start_ticks(directory) != process.start_ticks:
                raise ProcessLookupError(errno.ESRCH, "the PID now belongs to another process")
            yield table, reading

    @contextmanager
    def _noted(self, process: SurveyedProcess) -> Iterator[None]:
        """What goes wrong with a process is noted, and ends nothing."""
        try:
            yield
        except (FileNotFoundError, ProcessLookupError):
            self._note(process, "they ended meanwhile")
        except PermissionError:
            self._note(process, "reading them is not permitted")
        except OSError as error:
            self._note(process, error.strerror or str(error))
        except SourceError as error:
            self._note(process, str(error).removesuffix("."))

    def _note(self, process: SurveyedProcess, why: str) -> None:
        self.unread.setdefault(process.pid, why)


# A page, and whether it is a KSM page.
_Seen = tuple[PageEntry, bool]


def _read(
    table: PageTable, reading: ContentReading, runs: Sequence[Run], size: int
) -> tuple[list[PageEntry], list[bytes]]:
    """Pages in memory, and `size` bytes of each. They were in memory before and after."""
    entries = table.entries(runs)
    pages = table.pages(runs, entries)
    if not pages:
        return [], []
    contents = reading.read(pages, size)
    again = table.entries(runs)
    if again == entries and all(contents):
        return pages, contents
    frames = {page[0]: frame_of(page) for page in table.pages(runs, again)}
    kept = [
        (page, content)
        for page, content in zip(pages, contents, strict=True)
        if content and frames.get(page[0]) == frame_of(page)
    ]
    return [page for page, _ in kept], [content for _, content in kept]
