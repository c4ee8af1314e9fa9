"""Processes that are moved to another cgroup: seen as the backend says, or by looking again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.counting.backend import Budget
from ksmwatch.kernel import procfs
from ksmwatch.owners.processes import CGROUP_SECONDS
from ksmwatch.probes.cgroup_moves import SeenMoves
from tests.fakes import Clock
from tests.process_table import Table, move, owner_name, put


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path


PLENTY = Budget(1e9)


def test_a_move_to_another_cgroup_is_seen_in_time(proc: Path) -> None:
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS - 1
    table.look_again(None, PLENTY)
    assert owner_name(table.identify(7)) == "a.service"
    clock.now += 1
    table.look_again(None, PLENTY)
    assert owner_name(table.identify(7)) == "b.service"
    assert table.reads == 2


def test_who_stays_in_the_cgroup_is_not_read_anew(proc: Path) -> None:
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    first = table.identify(7)
    for _ in range(3):
        clock.now += CGROUP_SECONDS
        table.look_again(None, PLENTY)
        assert table.identify(7) is first
    # After a look at the cgroup the time begins again.
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS - 1
    table.look_again(None, PLENTY)
    assert table.identify(7) is first
    assert table.reads == 1


def test_with_little_time_those_are_looked_at_that_were_not_for_longest(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    table = Table(proc, clock)
    looked: list[int] = []

    def look(directory: Path) -> bytes:
        looked.append(int(directory.name))
        clock.now += 1
        return (directory / "cgroup").read_bytes()

    for pid in (9, 7, 8):
        put(proc, pid, b"tenant", 1)
        table.identify(pid)
    monkeypatch.setattr(procfs, "read_cgroup", look)
    clock.now += CGROUP_SECONDS
    table.look_again(None, Budget(2, clock))
    assert looked == [9, 7]
    table.look_again(None, Budget(2, clock))
    assert looked == [9, 7, 8]


def test_who_has_ended_is_not_asked_for_its_cgroup(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    table = Table(proc, clock)
    for pid, parent in ((7, 1), (8, 7), (9, 1), (10, 1)):
        put(proc, pid, b"tenant", 1, parent=parent)
        table.identify(pid)
    asked: list[str] = []

    def look(directory: Path) -> bytes:
        asked.append(directory.name)
        clock.now += 1
        return (directory / "cgroup").read_bytes()

    monkeypatch.setattr(procfs, "read_cgroup", look)
    # 8 has another parent then, and will be read anew.
    table.hear(7)
    clock.now += CGROUP_SECONDS
    table.look_again(None, Budget(1, clock))
    assert asked == ["9"]
    # It ends before its turn.
    table.hear(10)
    table.look_again(None, PLENTY)
    assert asked == ["9"]


def test_who_is_listed_in_its_cgroup_is_not_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, cgroups, clock = tmp_path / "proc", tmp_path / "sys/fs/cgroup/system.slice", Clock()
    proc.mkdir()
    for name, listed in (("a.service", (1, 7, 8)), ("b.service", (9,))):
        (cgroups / name).mkdir(parents=True)
        (cgroups / name / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in listed))
    for pid in (1, 7, 8, 9):
        put(proc, pid, b"tenant", 1)
    (proc / "self").symlink_to("1")
    table = Table(proc, clock)
    for pid in (7, 8, 9):
        table.identify(pid)
    asked: list[int] = []

    def look(directory: Path) -> bytes:
        asked.append(int(directory.name))
        return b"0::/system.slice/b.service\n"

    monkeypatch.setattr(procfs, "read_cgroup", look)
    clock.now += CGROUP_SECONDS
    table.look_again(None, PLENTY)
    # 9 was in a.service, and is not listed there.
    assert asked == [9]


def alone(proc: Path) -> None:
    """The unified hierarchy of cgroups is the only one."""
    put(proc, 1, b"daemon", 1)
    (proc / "self").symlink_to("1")


NOBODY = SeenMoves((), whole=True)


def test_who_was_seen_to_move_has_another_owner_at_once(proc: Path) -> None:
    alone(proc)
    table = Table(proc)
    for pid in (7, 8):
        put(proc, pid, b"tenant", 1)
        table.identify(pid)
        move(proc, pid, "/system.slice/b.service")
    table.take_forgotten()
    # Of 99 nothing is known.
    table.look_again(SeenMoves((7, 99), whole=True), PLENTY)
    assert table.take_forgotten() == {7}
    assert owner_name(table.identify(7)) == "b.service"
    assert owner_name(table.identify(8)) == "a.service"


def test_who_was_not_seen_to_move_is_not_looked_at(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(proc)
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    monkeypatch.delattr(procfs, "read_cgroup")
    clock.now += 10 * CGROUP_SECONDS
    table.look_again(NOBODY, PLENTY)


def test_if_not_all_moves_were_seen_everybody_is_looked_at(proc: Path) -> None:
    alone(proc)
    clock = Clock()
    table = Table(proc, clock)
    for pid in (7, 8):
        put(proc, pid, b"tenant", 1)
        table.identify(pid)
        move(proc, pid, f"/system.slice/{pid}.service")
    table.look_again(SeenMoves((), whole=False), Budget(0, clock))
    # There was no time; there is at the next look.
    assert owner_name(table.identify(8)) == "a.service"
    clock.now += 1
    table.look_again(NOBODY, PLENTY)
    assert [owner_name(table.identify(pid)) for pid in (7, 8)] == ["7.service", "8.service"]


def test_beside_other_hierarchies_cgroups_are_looked_at_from_time_to_time(proc: Path) -> None:
    alone(proc)
    (proc / "1/cgroup").write_text("3:cpuset:/\n0::/system.slice/a.service\n")
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS
    table.look_again(NOBODY, PLENTY)
    assert owner_name(table.identify(7)) == "b.service"


def test_who_ended_unnoticed_is_nobody(proc: Path) -> None:
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    for path in (proc / "7").iterdir():
        path.unlink()
    (proc / "7").rmdir()
    clock.now += CGROUP_SECONDS
    table.look_again(None, PLENTY)
    assert table.identify(7) is None
