"""Reads private pages of processes for an estimate of what merging would save.

Three readings, none of which stops a process or keeps a lock for longer than a piece of a page
table takes. The first looks at the beginning of each page, the second reads those whole that were
chosen by that, and the third reads these again: what has changed would not be merged.

Whatever is read counts only if pagemap says the same of the page before and after.
"""

from __future__ import annotations

import errno
from array import array
from binascii import crc32
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from ksmwatch.diagnose.anonymous_areas import AnonymousArea, anonymous_areas
from ksmwatch.diagnose.content_sample import (
    IS_TAKEN,
    ContentSample,
    batches,
    count,
    owner_totals,
    pieces,
    sorted_in,
    where,
)
from ksmwatch.diagnose.equal_pages import Copies, Copy, Risk
from ksmwatch.diagnose.page_prints import PART, Looks, part_of
from ksmwatch.diagnose.pinned_memory import pinned_kilobytes
from ksmwatch.errors import SourceError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.page_content import (
    ContentReading,
    ContentSource,
    Pages,
    PageTable,
    Run,
    ZeroPages,
    is_alone,
    open_page_table,
)
from ksmwatch.kernel.page_frames import Frames
from ksmwatch.kernel.page_tables import FRAME, neither_here_nor_in_swap
from ksmwatch.kernel.pinned_frames import PinnedFrames
from ksmwatch.units import PAGE_SIZE

_ZEROS = bytes(PAGE_SIZE)
# Pages at once: of parts, and of whole pages.
_PIECE, _WHOLE_PIECE = 2048, 256
_IN_PIECE = array("H", range(_PIECE))
# The content of zeros.
_ZERO = 0
_UNKNOWN = -1
# Of an address, whose low bits say nothing.
_OFFERED, _MERGED = 1, 2


@dataclass(frozen=True)
class Tools:
    """What reads. `kernel`: its version.

    `frames`: recognises KSM pages; None if there are none, or nothing can do so. `pins`: recognises
    pinned pages; None if nothing can. `why`: why it is not the source that disturbs least; empty if
    it is. `node_of`: on which node of memory a frame lies, if ksmd merges only within each.
    `poisoned`: whether there is broken memory.
    """

    proc: Path
    kernel: tuple[int, int]
    source: ContentSource
    zero_frame: int
    frames: Frames | None
    pins: PinnedFrames | None = None
    why: str = ""
    node_of: Callable[[int], int | None] | None = None
    poisoned: bool = False


@dataclass
class SurveyedProcess:
    """One process, and what was seen of it: its pages in pieces. `buckets`, `labels`: of each page.

    `directory`: where it is read, below /proc; not its own if its main thread has ended.

    Of an address the lowest bits say whether the page is offered, and whether KSM pages are about.
    Prints end where pages are sorted into buckets.
    """

    pid: int
    start_ticks: int
    party: int
    directory: str
    pages: int
    # Of each piece its address, and how many pages were seen before it. Of each page its number in
    # its piece.
    starts: array[int] = field(default_factory=lambda: array("Q"))
    firsts: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("H"))
    prints: array[int] = field(default_factory=lambda: array("I"))
    buckets: array[int] = field(default_factory=lambda: array("I"))
    labels: bytes = b""
    # Frames of KSM pages, as often as it maps them; zero pages that KSM has put.
    merged: array[int] = field(default_factory=lambda: array("Q"))
    zero_pages: int = 0
    # Pages that are offered to KSM; how many of all the kernel says are pinned; and those that are
    # known to be pinned, and had a copy.
    offered: int = 0
    pinned: int = 0
    held: int = 0
    # Pages that were to be read whole, and those that were the same each time.
    whole: int = 0
    same: int = 0
    # Whether reading it has begun, whether all was seen that can be, and whether it has ended.
    begun: bool = False
    done: bool = False
    ended: bool = False

    @property
    def unexamined(self) -> int:
        """Pages that were not seen, and should have been."""
        return 0 if self.done or self.ended else max(0, self.pages - len(self.places))

    def add(self, start: int, pages: Pages) -> None:
        """Add a piece, by the address of its first page."""
        self.starts.append(start)
        self.firsts.append(len(self.places))
        here = _IN_PIECE[: len(pages.mask)]
        self.places.extend(here if 0 not in pages.mask else compress(here, pages.mask))

    def address(self, page: int) -> int:
        """The address of a page."""
        piece = bisect_right(self.firsts, page) - 1
        return self.starts[piece] + self.places[page] * PAGE_SIZE


@dataclass(frozen=True)
class Chosen:
    """Pages of a process that are read whole, in their order, and the content of each."""

    pages: array[int]
    contents: array[int]


class Survey:
    """What is known of pages. `left_out`: those that cannot be merged, by the reason.

    `tick` is called every now and then with a number of pages. It may raise, to end a reading;
    what was read by then stays.
    """

    def __init__(
        self, tools: Tools, processes: Sequence[SurveyedProcess], tick: Callable[[int], None]
    ) -> None:
        self._tools, self.processes, self._tick = tools, processes, tick
        self._zero_pages = ZeroPages(tools.proc)
        self.left_out: Counter[str] = Counter()
        # Processes that were not read, or not to the end, and why.
        self.unread: dict[int, str] = {}
        self.pages = 0
        # Contents by a hash of 64 bits with a secret key, and the bucket of each.
        self._contents: dict[int, int] = {_content(_ZEROS): _ZERO}
        self.bucket_of: list[int] = []
        # By content, and by node of memory where that counts.
        self.copies: defaultdict[tuple[int, int | None], Copies] = defaultdict(Copies)
        self.party_pages: Counter[tuple[int, int]] = Counter()

    # ---- the first reading ----

    def look(self, process: SurveyedProcess) -> None:
        """Print each page of a process. One that ends meanwhile, or may not be read, is counted."""
        process.begun = True
        with self._noted(process), self._open(process) as (table, reading):
            directory = self._directory(process)
            smaps = (directory / "smaps").read_bytes()
            status = procfs.read_file(f"{directory}/status").decode()
            process.pinned = pinned_kilobytes(smaps, status) * 1024 // PAGE_SIZE
            for area in anonymous_areas(smaps, self._tools.kernel, self.left_out):
                if area.fetched and self._tools.source.faults:
                    self.left_out["userfaultfd"] += (area.end - area.start) // PAGE_SIZE
                else:
                    self._look_at(process, area, table, reading)
            process.zero_pages = max(0, procfs.read_ksm_stat(directory).zero_pages or 0)
            process.done = True

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
        looks = Looks(reading)
        for start in range(area.start, area.end, _PIECE * PAGE_SIZE):
            run = (start, min(_PIECE, (area.end - start) // PAGE_SIZE))
            pages, parts = _read(table, looks, [run], PART)
            if parts:
                process.add(start | bits, pages)
                process.prints.extend(map(crc32, parts))
                process.offered += len(parts) * area.offered
            if parts and frames is not None:
                merged = frames.ksm(set(pages.frames))
                process.merged.extend(frame for frame in pages.frames if frame in merged)
            if self._tools.poisoned:
                self.left_out["poisoned"] += neither_here_nor_in_swap(table.entries([run]))
            self.pages += len(parts)
            self._tick(len(parts))

    def sort(self, buckets: int) -> None:
        """Sort all pages into this many buckets."""
        for process in self.processes:
            process.buckets = sorted_in(process.prints or process.buckets, buckets)
            process.prints = array("I")

    def label(self, choice: ContentSample) -> None:
        """Label all pages, by what was chosen."""
        for process in self.processes:
            process.labels = bytes(map(choice.labels.__getitem__, process.buckets))

    def read_twice(self, party: int | None = None) -> tuple[int, int]:
        """Pages that were read twice, and those that were the same; of processes that remained."""
        found = [
            process
            for process in self.processes
            if party in (None, process.party) and process.pid not in self.unread
        ]
        return sum(process.whole for process in found), sum(process.same for process in found)

    def totals(self, party: int, choice: ContentSample) -> Counter[int]:
        """Of a party's pages, how many are in each stratum."""
        return owner_totals([p.labels for p in self.processes if p.party == party], choice)

    # ---- the second and the third ----

    def read(self, choice: ContentSample) -> list[Chosen]:
        """Read the chosen pages whole; those of each process."""
        found = []
        self.bucket_of = [0] * len(self._contents)
        for process in self.processes:
            pages = where(process.labels.translate(IS_TAKEN), 1)
            chosen = Chosen(pages, array("q", [_UNKNOWN]) * len(pages))
            found.append(chosen)
            with self._noted(process):
                self._read_one(process, chosen, len(choice.labels) - 1)
        return found

    def _read_one(self, process: SurveyedProcess, chosen: Chosen, mask: int) -> None:
        buckets = array("I", map(process.buckets.__getitem__, chosen.pages))
        for bucket, pages in Counter(buckets).items():
            self.party_pages[bucket, process.party] += pages
        process.whole = len(buckets)
        for at, _, page in self._whole(process, chosen.pages):
            if crc32(part_of(page)) & mask == buckets[at]:
                chosen.contents[at] = self._number(page, buckets[at])

    def _number(self, page: bytes, bucket: int) -> int:
        number = self._contents.setdefault(_content(page), len(self._contents))
        if number == len(self.bucket_of):
            self.bucket_of.append(bucket)
        elif number == _ZERO:
            self.bucket_of[_ZERO] = bucket
        return number

    def compare(self, before: list[Chosen]) -> None:
        """Read them again, and take as copies those that are the same still."""
        # The last one is for _UNKNOWN.
        times = count((chosen.contents for chosen in before), len(self.bucket_of) + 1)
        for process, chosen in zip(self.processes, before, strict=True):
            with self._noted(process):
                for at, seen, page in self._whole(process, chosen.pages, self._tools.pins):
                    content = chosen.contents[at]
                    if self._contents.get(_content(page)) == content:
                        process.same += 1
                        # A page without a copy saves nothing, and there are many.
                        if content == _ZERO or times.small[content] > 1:
                            self._take(process, chosen.pages[at], content, seen)

    def _take(self, process: SurveyedProcess, page: int, content: int, seen: _Seen) -> None:
        """A copy of a content."""
        entry, merged, pinned = seen
        frame = None if is_alone(entry) else entry & FRAME
        if content == _ZERO and frame is not None and self._zero_pages.has(frame):
            return
        node_of = self._tools.node_of
        copies = self.copies[content, node_of(entry & FRAME) if node_of else None]
        offered = bool(process.address(page) & _OFFERED)
        risk = Risk.OFFERED if offered else Risk.IF_OFFERED
        if pinned:
            process.held += 1
            copies.pinned = max(copies.pinned, risk)
            return
        if self._tools.pins is None and process.pinned:
            # Pinned pages look like all others, so each can be one.
            copies.doubtful = max(copies.doubtful, risk)
        copies.add(Copy(process.party, offered, merged), frame)

    def _whole(
        self, process: SurveyedProcess, wanted: Sequence[int], pins: PinnedFrames | None = None
    ) -> Iterator[tuple[int, _Seen, bytes]]:
        """Whole pages: the place of each in `wanted`, what is known of it, its content."""
        if not wanted:
            return
        addresses = array("Q", map(process.address, wanted))
        runs = pieces(map((-PAGE_SIZE).__and__, addresses), PAGE_SIZE, _WHOLE_PIECE)
        done = 0
        with self._open(process) as (table, reading):
            for batch in batches(runs, _WHOLE_PIECE):
                pages, contents = _read(table, reading, batch, PAGE_SIZE)
                places = list(compress(range(done, done + len(pages.mask)), pages.mask))
                merged = self._merged(pages, [addresses[at] & _MERGED for at in places])
                pinned = pins.pinned(set(pages.frames) - merged) if pins else ()
                for at, entry, content in zip(places, pages.entries, contents, strict=True):
                    frame = entry & FRAME
                    yield at, (entry, frame in merged, frame in pinned), content
                done += len(pages.mask)
                self._tick(len(pages.mask))

    def _merged(self, pages: Pages, may_be: Sequence[int]) -> set[int]:
        """Frames of KSM pages among pages that may be."""
        frames = set(compress(pages.frames, may_be))
        return self._tools.frames.ksm(frames) if frames and self._tools.frames else set()

    # ---- all of them ----

    def _directory(self, process: SurveyedProcess) -> Path:
        return self._tools.proc / process.directory

    @contextmanager
    def _open(self, process: SurveyedProcess) -> Iterator[tuple[PageTable, ContentReading]]:
        directory = self._directory(process)
        with ExitStack() as stack:
            table = stack.enter_context(open_page_table(directory, self._tools.zero_frame))
            reading = stack.enter_context(self._tools.source.open(directory))
            own = self._tools.proc / str(process.pid)
            if procfs.read_start_ticks(own) != process.start_ticks:
                raise ProcessLookupError(errno.ESRCH, "the PID now belongs to another process")
            yield table, reading

    @contextmanager
    def _noted(self, process: SurveyedProcess) -> Iterator[None]:
        """What goes wrong with a process is noted, and ends nothing."""
        try:
            yield
        except (FileNotFoundError, ProcessLookupError):
            self._note(process, "they ended meanwhile")
            process.ended = True
        except PermissionError:
            self._note(process, "reading them is not permitted")
        except OSError as error:
            self._note(process, error.strerror or str(error))
        except SourceError as error:
            self._note(process, str(error).removesuffix("."))

    def _note(self, process: SurveyedProcess, why: str) -> None:
        self.unread.setdefault(process.pid, why)


# What pagemap has of a page, whether it is a KSM page, and whether it is pinned.
_Seen = tuple[int, bool, bool]


def _read(
    table: PageTable, reading: ContentReading, runs: Sequence[Run], size: int
) -> tuple[Pages, list[bytes]]:
    """Pages in memory, and `size` bytes of each. They were in memory before and after."""
    raw = table.entries(runs)
    pages = table.pages(runs, raw)
    if not pages.entries:
        return pages, []
    contents = reading.read(pages, size)
    again = table.entries(runs)
    if again == raw and all(contents):
        return pages, contents
    later = table.pages(runs, again)
    frames = dict(zip(later.addresses(), later.frames, strict=True))
    same = map(frames.get, pages.addresses())
    kept = [
        bool(content) and frame == other
        for content, frame, other in zip(contents, pages.frames, same, strict=True)
    ]
    return pages.only(kept), list(compress(contents, kept))


def _content(page: bytes) -> int:
    """A keyed hash, which is never -1. Zeros, which are very many, are compared instead."""
    return -1 if page == _ZEROS else hash(page)
