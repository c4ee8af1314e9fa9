"""Made-up processes with known page contents, for `ksmwatch estimate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ksmwatch.commands import estimate
from ksmwatch.commands.estimate import EstimateWish
from ksmwatch.diagnose.page_survey import Tools
from ksmwatch.errors import Exit
from ksmwatch.kernel.page_content import MemSource, Pages
from ksmwatch.kernel.pinned_frames import PinnedFrames
from ksmwatch.units import PAGE_SIZE
from tests.fakes import Proc, Sys

PRESENT, SHARED, ALONE = 1 << 63, 1 << 61, 1 << 56
ZERO_FRAME = 3
KERNEL = (6, 12)
BASE = 0x10000
SMAPS = """\
{start:x}-{end:x} rw-p 00000000 00:00 0
Rss:            {kb:8d} kB
Anonymous:      {kb:8d} kB
Swap:                  8 kB
KSM:            {ksm:8d} kB
VmFlags: rd wr mr mw me {flags}
"""


def content(of: object) -> bytes:
    """A page that only its name decides; None: zeros."""
    return bytes(PAGE_SIZE) if of is None else str(of).encode().ljust(PAGE_SIZE, b"\xff")


class Memory(MemSource):
    """Contents by frame, which may change between two readings."""

    def __init__(self) -> None:
        self.frames: dict[int, bytes] = {}
        self.whole = 0
        # Called with the number of pages that were read whole by then.
        self.then: Callable[[int], None] = lambda _: None

    @contextmanager
    def open(self, directory: Path) -> Any:
        """The same for every process."""
        yield self

    def read(self, pages: Pages, size: int, first: int = 0) -> list[bytes]:
        """By frame."""
        found = [self.frames[frame][first : first + size] for frame in pages.frames]
        if size == PAGE_SIZE:
            self.whole += len(found)
            self.then(self.whole)
        return found


class KnownKsm:
    """Tells KSM frames."""

    name = "made up"

    def __init__(self, frames: set[int]) -> None:
        self.frames = frames

    def ksm(self, frames: Any) -> set[int]:
        """Those of them."""
        return self.frames & set(frames)

    def private(self, frame: int) -> bool:
        """All others."""
        return frame not in self.frames


class KnownPins:
    """Tells pinned frames."""

    def __init__(self, frames: set[int]) -> None:
        self.frames = frames

    def pinned(self, frames: Any) -> set[int]:
        """Those of them."""
        return self.frames & set(frames)


class Host:
    """Made-up processes with pages."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = Proc(path / "proc")
        self.sys = Sys(
            path / "sys",
            max_page_sharing=256,
            use_zero_pages=0,
            pages_to_scan=100,
            sleep_millisecs=20,
        )
        self.memory = Memory()
        self.ksm: set[int] = set()
        self.kernel = KERNEL
        # Of frames, where that counts.
        self.nodes: dict[int, int] = {}
        # None: nothing tells pinned pages.
        self.pins: set[int] | None = set()
        # Whether there is broken memory.
        self.poisoned = False
        self.next_frame = 100
        monkeypatch.setattr(estimate, "_tools", self.tools)

    def tools(self, proc: Path, sys: Path, ksm: Mapping[str, int]) -> Tools:
        """What reads them."""
        known = KnownKsm(self.ksm) if ksm["pages_shared"] else None
        pins = None if self.pins is None else KnownPins(self.pins)
        told = cast("PinnedFrames | None", pins)
        node_of = None if ksm.get("merge_across_nodes", 1) else self.nodes.get
        return Tools(
            *(proc, self.kernel, self.memory, ZERO_FRAME, known, told),
            node_of=node_of,
            poisoned=self.poisoned,
        )

    def add(
        self,
        pid: int,
        contents: Sequence[object],
        *,
        name: str = "",
        flags: str = "mg",
        frames: Sequence[int] = (),
        more: str = "",
    ) -> None:
        """A process with pages of these contents, each in a frame of its own if none are given."""
        mine = list(frames) or list(range(self.next_frame, self.next_frame + len(contents)))
        self.next_frame += len(contents)
        entries = []
        for frame, of in zip(mine, contents, strict=True):
            self.memory.frames[frame] = content(of)
            entries.append(PRESENT | frame | (0 if frames else ALONE))
        name = name or f"p{pid}"
        directory = self.proc.process(pid, cgroup=f"/lxc.payload.{name}", comm=name)
        with (directory / "status").open("a") as status:
            status.write(f"RssAnon:\t{4 * len(contents)} kB\n")
        end = BASE + len(entries) * PAGE_SIZE
        ksm = 4 * len(self.ksm & set(mine))
        smaps = SMAPS.format(start=BASE, end=end, kb=4 * len(entries), ksm=ksm, flags=flags)
        (directory / "smaps").write_text(smaps + more)
        self.write_entries(pid, entries)

    def write_entries(self, pid: int, entries: Sequence[int]) -> None:
        """What pagemap says; the first is of BASE."""
        with (self.proc.path / str(pid) / "pagemap").open("wb") as file:
            file.seek(BASE // PAGE_SIZE * 8)
            file.write(b"".join(entry.to_bytes(8, "little") for entry in entries))

    def ask(self, *subjects: str, as_json: bool = True, **wish: Any) -> Exit:
        """Run the command."""
        given = {"precision": 0, "budget": 600.0, "interval": 0.0, "seed": 1, **wish}
        whole = EstimateWish(subjects, given.pop("labels", ()), **given)
        return estimate.run(whole, as_json=as_json, proc=self.proc.path, sys=self.sys.path)
