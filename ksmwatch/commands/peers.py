"""``ksmwatch peers``: reads page frames of KSM users, within limits, and prints who shares.

The live count says whose page tables to read, and whether anything moved meanwhile.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksmwatch.commands import peers_view
from ksmwatch.commands.named_owner import named_owner
from ksmwatch.commands.progress import StatusLine, gauge
from ksmwatch.diagnose import sharers
from ksmwatch.diagnose.sharers import Cost, Label, Party, Result, Sharing
from ksmwatch.errors import Exit, NoKsmError, SourceError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.areas import parse
from ksmwatch.kernel.frame_source import choose_frames
from ksmwatch.kernel.page_frames import AnyFrame, Frames
from ksmwatch.kernel.page_tables import PagemapReader
from ksmwatch.probes.map_records import Movement
from ksmwatch.units import PAGE_SIZE

_PROC = Path("/proc")
# Returns a snapshot document.
Read = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class PeersRequest:
    """The requested subject (None: all), and the limits of the cost.

    `pages`: the most page-table entries to read.
    """

    subject: str | None
    labels: tuple[Label, ...]
    pages: int
    seconds: float


class _Spending:
    """What has been spent of the limits."""

    def __init__(self, wish: PeersRequest) -> None:
        self._wish = wish
        self._began, self._cpu = time.monotonic(), time.process_time()
        self.pages = self.processes = 0

    def allows(self, pages: int) -> bool:
        """Whether this many more entries may be read."""
        late = time.monotonic() - self._began > self._wish.seconds
        return not late and self.pages + pages <= self._wish.pages

    def cost(self) -> Cost:
        """The cost so far."""
        seconds, cpu = time.monotonic() - self._began, time.process_time() - self._cpu
        return Cost(self.processes, self.pages, round(seconds, 3), round(cpu, 3))


class _LimitError(Exception):
    """The limit would be exceeded."""


class Bar:
    """A progress bar, on a terminal only."""

    def __init__(self) -> None:
        self._line = StatusLine()

    def show(self, done: int, total: int) -> None:
        if self._line.due():
            self._line.draw(f"{gauge(done, total)} {done} of {total} mappings")

    def end(self) -> None:
        """Remove the bar."""
        self._line.end()


def run(read: Read, wish: PeersRequest, *, as_json: bool) -> Exit:
    """Print who shares with whom. Raises KsmwatchError if nothing can be read."""
    before = read()
    if before["mode"] == "none":
        raise NoKsmError("This kernel has no KSM (CONFIG_KSM).")
    frames = choose_frames(_PROC)
    scan = _Scan(before, wish, frames)
    scan.read_all()
    result = sharers.judge(scan.parties, scan.sharing, frames.name, scan.doubts(read()), scan.cost)
    _print(result, scan.subject, as_json=as_json)
    return Exit.OK


def _print(result: Result, subject: Party | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(peers_view.document(result, subject), indent=1))
    elif subject is not None:
        print(peers_view.listing(result, subject))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(peers_view.matrix(result, width))


class _Scan:
    """One scan of the page tables of all processes of a snapshot document."""

    def __init__(self, before: dict[str, Any], wish: PeersRequest, frames: Frames) -> None:
        self.sharing = Sharing()
        self._before, self._frames = before, frames
        self._spending = _Spending(wish)
        self._processes = [p for p in before["processes"] if p["mappings"]]
        self.parties = list(self._make_parties(wish))
        self._place = {(p.kind, p.id, p.pid): at for at, p in enumerate(self.parties)}
        self.subject = self._find(wish.subject) if wish.subject is not None else None
        # Mappings of processes that were not read, by reason.
        self._unread: Counter[str] = Counter()

    @property
    def cost(self) -> Cost:
        """The cost so far."""
        return self._spending.cost()

    def _make_parties(self, wish: PeersRequest) -> Iterator[Party]:
        """The owners; and the requested process, separate from its owner."""
        alone = self._process_of(wish.subject)
        for owner in self._before["owners"]:
            key = owner["kind"], owner["id"]
            tenant = sharers.tenant_of(*key, wish.labels)
            own = 0
            if alone is not None and key == _key(alone):
                own = alone["mappings"]
                yield Party(*key, alone["name"], tenant, own, alone["pid"])
            if owner["mappings"] > own:
                yield Party(*key, owner["name"], tenant, owner["mappings"] - own)

    def _process_of(self, subject: str | None) -> dict[str, Any] | None:
        return next((p for p in self._processes if str(p["pid"]) == subject), None)

    def _find(self, wanted: str) -> Party:
        process = self._process_of(wanted)
        if process is not None:
            return self.parties[self._place[*_key(process), process["pid"]]]
        nobody = f"No process or owner {wanted!r} has KSM pages."
        return named_owner(self.parties, wanted, nobody)

    def read_all(self) -> None:
        """Read all processes, those with most mappings first, as far as the limits allow."""
        reader = PagemapReader(self._frames)
        bar, done, total = Bar(), 0, sum(p["mappings"] for p in self._processes)
        for process in sorted(self._processes, key=lambda p: -p["mappings"]):
            bar.show(done, total)
            done += process["mappings"]
            try:
                found = self._read(process, reader)
            except _LimitError:
                self._unread["the limit of pages or seconds was reached"] += process["mappings"]
            except OSError as error:
                self._unread[error.strerror or str(error)] += process["mappings"]
            except SourceError as error:
                self._unread[str(error).removesuffix(".")] += process["mappings"]
            else:
                self.sharing.add(self._party(process), found)
                self._spending.processes += 1
        bar.end()

    def _party(self, process: dict[str, Any]) -> int:
        key = _key(process)
        own = self._place.get((*key, process["pid"]))
        return self._place[*key, None] if own is None else own

    def _read(self, process: dict[str, Any], reader: PagemapReader) -> Counter[int]:
        """KSM frames of a process, and how often it maps each. Raises OSError, _LimitError."""
        directory = _PROC / str(process["pid"])
        found: Counter[int] = Counter()
        with reader.open(directory) as opened:
            if procfs.read_start_ticks(directory) != process["start_time"]:
                raise ProcessLookupError(errno.ESRCH, "the PID now belongs to another process")
            # If smaps does not name areas with KSM pages, read all areas with anonymous pages.
            for area in parse(opened.smaps(), lambda *_: 1):
                pages = (area.end - area.start) // PAGE_SIZE
                if not self._spending.allows(pages):
                    raise _LimitError
                self._spending.pages += pages
                for frames in opened.frames(area.start, area.end):
                    found.update(frames)
        return found

    def doubts(self, after: dict[str, Any]) -> Iterator[str]:
        """Why the result may not be exact. `after`: a snapshot document made after the scan."""
        host = after["host"]
        if isinstance(self._frames, AnyFrame):
            yield (
                f"KSM pages cannot be distinguished from others ({self._frames.why}): pages that "
                "processes share by fork count too, if they lie in areas that have KSM "
                "pages"
            )
        for reason, mappings in self._unread.items():
            yield f"{mappings} mappings were not read: {reason}"
        if host["unnamed_mappings"]:
            yield f"{host['unnamed_mappings']} mappings belong to no known process"
        if after["mode"] != "bpf":
            yield "counts are polled, so pages may have moved unnoticed while they were read"
        elif moved := _movements(after) - _movements(self._before):
            yield f"{moved} KSM mappings came or went while page tables were read"
        elif host["confidence"] != "exact":
            yield f"the live count is {host['confidence']}"
        found = sum(self.sharing.mappings(at) for at in range(len(self.parties)))
        counted = sum(p["mappings"] for p in self._processes)
        if found != counted and not self._unread:
            yield f"{found} mappings were found, but {counted} are counted"


def _key(process: dict[str, Any]) -> tuple[str, str]:
    return process["owner"]["kind"], process["owner"]["id"]


def _movements(document: dict[str, Any]) -> int:
    """All KSM mappings that ever came or went."""
    return sum(document["totals"].get(which.name.lower(), 0) for which in Movement)
