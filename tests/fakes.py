"""Hosts and processes that consist of files only, and clocks with a settable time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ksmwatch.kernel.facts import Facts
from ksmwatch.units import PAGE_SIZE

FIXTURES = Path(__file__).with_name("fixtures")
KERNELS = ("6.1", "6.12", "7.3")


def recorded(kernel: str) -> Facts:
    """Facts of a recorded test kernel."""
    return Facts.from_json(json.loads((FIXTURES / kernel / "facts.json").read_text()))


def capable() -> Facts:
    """A host that can do everything; tests take one thing away from it."""
    return recorded("7.3")


def without(**changes: Any) -> Facts:
    """A capable host with something changed."""
    return dataclasses.replace(capable(), **changes)


def without_symbols(*names: str) -> Facts:
    """A capable host whose kernel lacks these functions."""
    facts = capable()
    kept = {name: n for name, n in facts.symbols.items() if name not in names}
    return dataclasses.replace(facts, symbols=kept)


class Clock:
    """A clock with a settable time."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Proc:
    """An invented /proc below a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def process(
        self,
        pid: int,
        *,
        comm: str = "tenant",
        ticks: int = 5000,
        parent: int = 1,
        merging: int | None = 0,
        rmap_items: int = 0,
        mapped: int = 0,
        cpu: tuple[int, int] = (0, 0),
        cgroup: str = "/system.slice/tenant.service",
        uid: int = 0,
    ) -> Path:
        """A process with this many KSM mappings, and ksmd's number; None: no file.

        `cpu`: user and system time in clock ticks.
        """
        directory = self.path / str(pid)
        directory.mkdir(exist_ok=True)
        used = [str(part) for part in cpu]
        fields = ["S", str(parent), *["0"] * 9, *used, *["0"] * 6, str(ticks), *["0"] * 30]
        (directory / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
        (directory / "comm").write_text(f"{comm}\n")
        (directory / "cmdline").write_text(f"/usr/bin/{comm}\0")
        (directory / "cgroup").write_text(f"0::{cgroup}\n")
        (directory / "status").write_text(f"Name:\t{comm}\nUid:\t{uid}\t9\t9\t9\n")
        if merging is not None:
            (directory / "ksm_stat").write_text(
                f"ksm_rmap_items {rmap_items}\nksm_merging_pages {merging}\n"
            )
        rollup = f"Rss:  100 kB\nKSM: {mapped * PAGE_SIZE // 1024:15} kB\n"
        (directory / "smaps_rollup").write_text(rollup)
        return directory

    def end(self, pid: int) -> None:
        """The process has gone."""
        directory = self.path / str(pid)
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


class Sys:
    """An invented /sys with KSM's directory."""

    def __init__(self, path: Path, **numbers: int) -> None:
        self.path = path
        self.ksm = path / "kernel/mm/ksm"
        self.ksm.mkdir(parents=True)
        for name, number in {"run": 1, "pages_shared": 0, "pages_sharing": 0, **numbers}.items():
            self.write(name, number)

    def write(self, name: str, number: int) -> None:
        """Set one of KSM's files."""
        (self.ksm / name).write_text(f"{number}\n")


# Numbers of a host on which ksmd has found most that is equal.
WELL_MERGED = {
    "run": 1,
    "full_scans": 5,
    "pages_to_scan": 100,
    "sleep_millisecs": 20,
    "pages_shared": 100,
    "pages_sharing": 900,
    "pages_unshared": 50,
    "pages_volatile": 20,
}
