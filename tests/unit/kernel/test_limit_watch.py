"""Which cgroups may have another limit, on directories that look like cgroups."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ksmwatch.kernel import limit_watch, syscalls
from ksmwatch.kernel.cgroup_rooms import CgroupRooms
from ksmwatch.kernel.limit_watch import LimitWatch

_PATHS = ("/a", "/a/b", "/a/b/c", "/ab", "/d")


class Cgroups:
    """A hierarchy below `root`."""

    def __init__(self, sys: Path) -> None:
        self.root = sys / "fs/cgroup"
        self.root.mkdir(parents=True)
        self.write("cgroup.subtree_control", "")
        for path in _PATHS:
            self.make(path)

    def make(self, path: str, limit: str = "9000") -> None:
        (self.root / path[1:]).mkdir()
        for name, text in (("memory.max", limit), ("memory.current", "1000")):
            self.write(f"{path[1:]}/{name}", text)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(f"{text}\n")

    def remove(self, path: str) -> None:
        directory = self.root / path[1:]
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()


@pytest.fixture
def cgroups(tmp_path: Path) -> Cgroups:
    return Cgroups(tmp_path)


@pytest.fixture
def watch(cgroups: Cgroups) -> LimitWatch:
    made = LimitWatch(str(cgroups.root))
    assert all(map(made.begin, _PATHS))
    assert made.changed() == set()
    return made


@pytest.mark.parametrize(
    ("act", "changed"),
    [
        (lambda c: c.write("a/b/memory.max", "5"), {"/a/b"}),
        (lambda c: c.write("a/b/memory.high", "5"), set()),
        (lambda c: c.write("a/cgroup.subtree_control", "+memory"), {"/a", "/a/b", "/a/b/c"}),
        (lambda c: c.write("cgroup.subtree_control", "-memory"), {*_PATHS, ""}),
        (lambda c: c.remove("/a/b/c"), {"/a/b/c"}),
        (lambda c: c.make("/a/e"), set()),
    ],
)
def test_what_changes_a_limit_is_told_once(
    cgroups: Cgroups, watch: LimitWatch, act: Callable[[Cgroups], None], changed: set[str]
) -> None:
    act(cgroups)
    # The files of a directory that is no cgroup go before it does.
    assert watch.changed() == changed
    assert watch.changed() == set()


def test_a_cgroup_that_is_made_anew_is_watched_anew(cgroups: Cgroups, watch: LimitWatch) -> None:
    cgroups.remove("/d")
    cgroups.make("/d")
    assert watch.changed() == {"/d"}
    cgroups.write("d/memory.max", "5")
    assert watch.changed() == set(), "it is another cgroup"
    assert watch.begin("/d")
    cgroups.write("d/memory.max", "6")
    assert watch.changed() == {"/d"}


def test_if_there_were_too_many_events_any_may_have_changed(
    cgroups: Cgroups, watch: LimitWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow = limit_watch._EVENT.pack(-1, syscalls.IN_Q_OVERFLOW, 0, 0)
    monkeypatch.setattr(os, "read", lambda *_: overflow)
    assert watch.changed() is None


def refuse(*_: object) -> int:
    raise OSError


@pytest.mark.parametrize("refused", ["open_inotify", "add_watch"])
def test_limits_that_cannot_be_watched_are_read_each_time(
    tmp_path: Path, cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(syscalls, refused, refuse)
    rooms = CgroupRooms(tmp_path)
    assert rooms.read(["/d"]) == {"/d": 8000}
    # Nothing is told of this.
    cgroups.write("d/memory.max", "5000")
    assert rooms.read(["/d"]) == {"/d": 4000}


def test_a_limit_is_read_again_only_if_it_may_have_changed(
    tmp_path: Path, cgroups: Cgroups
) -> None:
    rooms = CgroupRooms(tmp_path)
    assert rooms.read(_PATHS) == dict.fromkeys(_PATHS, 8000)
    held = [path for path in _PATHS if path != "/d"]
    for path in held:
        # As nobody does it with a cgroup: the file itself is another one.
        (cgroups.root / path[1:] / "memory.max").rename(cgroups.root / path[1:] / "other")
    cgroups.write("d/memory.max", "max")
    cgroups.write("ab/memory.current", "2000")
    assert rooms.read(_PATHS) == {**dict.fromkeys(held, 8000), "/ab": 7000}


def test_what_nobody_asks_for_is_not_watched_for_ever(
    tmp_path: Path, cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksmwatch.kernel.cgroup_rooms._SPARE", 2)
    rooms = CgroupRooms(tmp_path)
    rooms.read(_PATHS)
    assert len(rooms._watch) == len(_PATHS) + 1
    assert rooms.read(["/d"]) == {"/d": 8000}
    assert rooms.read(["/d"]) == {"/d": 8000}
    assert len(rooms._watch) == 2
