"""The kernel's own numbers, as text and as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.kernel import procfs
from ksmwatch.kernel.cgroup_rooms import CgroupRooms
from ksmwatch.kernel.host_sources import HostSources
from ksmwatch.kernel.procfs import KsmStat
from tests.fakes import Proc, Sys


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("cow_ksm 17\n", {"cow_ksm": 17}),
        ("MemTotal:        2048 kB\n", {"MemTotal": 2048}),
        ("HugePages_Total:       0\n", {"HugePages_Total": 0}),
        ("Active(anon):  5 kB\n", {"Active(anon)": 5}),
        ("ksm_process_profit -64\n", {"ksm_process_profit": -64}),
        # Words, since 6.17, and lines that are no pairs.
        ("ksm_merge_any: no\nksm_mergeable: yes\n", {}),
        ("alone\n\n: 5\n", {}),
        ("a 1\nb x\nc 3\n", {"a": 1, "c": 3}),
    ],
)
def test_pairs(text: str, pairs: dict[str, int]) -> None:
    assert procfs.parse_pairs(text) == pairs


@given(st.dictionaries(st.from_regex(r"[a-zA-Z_()]+", fullmatch=True), st.integers()))
def test_every_pair_is_found_in_both_spellings(pairs: dict[str, int]) -> None:
    assert procfs.parse_pairs("".join(f"{k} {v}\n" for k, v in pairs.items())) == pairs
    assert procfs.parse_pairs("".join(f"{k}: {v:8} kB\n" for k, v in pairs.items())) == pairs


# ---- the host ----


def test_ksm_files_are_numbers_by_name(tmp_path: Path) -> None:
    sys = Sys(tmp_path, run=2, pages_shared=3, pages_sharing=4, general_profit=-8192)
    (sys.ksm / "advisor_mode").write_text("[none] scan-time\n")
    numbers = {"run": 2, "pages_shared": 3, "pages_sharing": 4, "general_profit": -8192}
    assert procfs.read_ksm(tmp_path) == (numbers, [])


def test_a_kernel_without_ksm_is_not_one_with_zeros(tmp_path: Path) -> None:
    assert procfs.read_ksm(tmp_path) == (None, [])


def test_a_file_that_is_not_understood_is_named_and_left_out(tmp_path: Path) -> None:
    sys = Sys(tmp_path)
    (sys.ksm / "pages_shared").write_text("many\n")
    (sys.ksm / "new").mkdir()
    numbers, failures = procfs.read_ksm(tmp_path)
    assert numbers == {"run": 1, "pages_sharing": 0}
    assert failures == [str(sys.ksm / "new"), str(sys.ksm / "pages_shared")]


def test_missing_host_files_are_failures_not_zeros(tmp_path: Path) -> None:
    Sys(tmp_path)
    (tmp_path / "vmstat").write_text("cow_ksm 1\nnr_free_pages 9\nksm_swpin_copy 2\n")
    numbers = HostSources(tmp_path, tmp_path).read()
    assert numbers.vmstat == {"cow_ksm": 1, "ksm_swpin_copy": 2}
    assert numbers.meminfo == {}
    assert numbers.failures == (str(tmp_path / "meminfo"),)


@pytest.mark.parametrize(("text", "run"), [("0\n", 0), ("2\n", 2), ("", None), ("x\n", None)])
def test_run(tmp_path: Path, text: str, run: int | None) -> None:
    sys = Sys(tmp_path)
    (sys.ksm / "run").write_text(text)
    assert procfs.read_number(procfs.run_file(tmp_path).read) == run


def test_an_absent_run_is_unknown(tmp_path: Path) -> None:
    assert procfs.read_number(procfs.run_file(tmp_path).read) is None
    assert procfs.read_number(procfs.pages_shared_file(tmp_path).read) is None


# ---- processes ----


@pytest.mark.parametrize(
    ("stat", "merging", "expected", "user"),
    [
        # 6.1, 6.5, 6.6.
        ("ksm_rmap_items 5\n", "3\n", KsmStat(5, 3, None, None), True),
        (
            "ksm_rmap_items 5\nksm_merging_pages 4\nksm_process_profit -9\n",
            "3\n",
            KsmStat(5, 4, None, -9),
            True,
        ),
        (
            "ksm_rmap_items 0\nksm_zero_pages 7\nksm_merging_pages 4\nksm_process_profit 1\n",
            None,
            KsmStat(0, 4, 7, 1),
            True,
        ),
        ("ksm_rmap_items 0\nksm_merging_pages 0\n", None, KsmStat(0, 0, None, None), False),
        # A kernel thread.
        ("", "", KsmStat(None, None, None, None), False),
        ("ksm_rmap_items 0\n", "", KsmStat(0, 0, None, None), False),
    ],
)
def test_ksm_stat_of_each_kernel(
    tmp_path: Path, stat: str, merging: str | None, expected: KsmStat, *, user: bool
) -> None:
    (tmp_path / "ksm_stat").write_text(stat)
    if merging is not None:
        (tmp_path / "ksm_merging_pages").write_text(merging)
    found = procfs.read_ksm_stat(tmp_path)
    assert found == expected
    assert found.user is user


def test_a_process_that_has_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        procfs.read_ksm_stat(tmp_path / "5")


@pytest.mark.parametrize("comm", ["plain", "a) S 1 (b", ") ) )", "((", "two\nlines", ""])
def test_start_times_are_found_behind_any_name(tmp_path: Path, comm: str) -> None:
    assert procfs.read_start_ticks(Proc(tmp_path).process(5, comm=comm, ticks=777)) == 777


@pytest.mark.parametrize(("state", "sleeps"), [("S", True), ("R", False), ("D", False)])
def test_a_thread_sleeps_when_it_waits_for_something_to_do(
    tmp_path: Path, state: str, *, sleeps: bool
) -> None:
    directory = Proc(tmp_path).process(5, comm="a) S (b")
    stat = directory / "stat"
    stat.write_text(stat.read_text().replace("(b) S ", f"(b) {state} "))
    assert procfs.sleeps(directory) is sleeps


def test_processes_are_the_numbers_in_proc(tmp_path: Path) -> None:
    for name in ("10", "9", "self", "1x", "acpi"):
        (tmp_path / name).mkdir()
    assert procfs.pids(tmp_path) == [9, 10]


def test_ksmd_is_a_child_of_kthreadd(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.process(2, comm="kthreadd", parent=0)
    proc.process(30, comm="ksmd", parent=1)
    proc.process(31, comm="ksmd) S 2 (x", parent=1)
    proc.process(32, comm="ksmd", parent=2)
    (tmp_path / "5").mkdir()
    assert procfs.find_ksmd(tmp_path) == 32


def test_without_ksmd_there_is_no_process(tmp_path: Path) -> None:
    Proc(tmp_path).process(30, comm="ksmd", parent=1)
    assert procfs.find_ksmd(tmp_path) == 0


def test_cpu_time_of_ksmd_is_of_user_and_system(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.process(32, comm="ksmd", parent=2, cpu=(3, 250))
    ksmd = procfs.Ksmd(tmp_path)
    assert ksmd.cpu_seconds() == 253 / os.sysconf("SC_CLK_TCK")
    proc.process(32, comm="ksmd", parent=2, cpu=(3, 251))
    assert ksmd.cpu_seconds() == 254 / os.sysconf("SC_CLK_TCK")


def test_the_cpu_time_of_somebody_else_is_not_ksmds(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.process(32, comm="ksmd", parent=2, cpu=(0, 7))
    ksmd = procfs.Ksmd(tmp_path)
    proc.process(32, comm="ksmd", parent=1, cpu=(0, 9))
    assert ksmd.cpu_seconds() is None


def test_where_ksmd_is_not_seen_its_cpu_time_is_unknown(tmp_path: Path) -> None:
    assert procfs.Ksmd(tmp_path).cpu_seconds() is None


def test_numbers_have_the_cpu_time_of_ksmd(tmp_path: Path) -> None:
    Proc(tmp_path).process(32, comm="ksmd", parent=2, cpu=(0, 7))
    ksmd = procfs.Ksmd(tmp_path)
    cpu = HostSources(tmp_path, tmp_path, ksmd).read().ksmd_cpu
    assert cpu == 7 / os.sysconf("SC_CLK_TCK")
    assert HostSources(tmp_path, tmp_path).read().ksmd_cpu is None


# ---- the owner of a process ----


def test_the_uid_is_the_real_one(tmp_path: Path) -> None:
    assert procfs.read_uid(Proc(tmp_path).process(5, uid=1000)) == 1000


def test_a_name_cannot_pass_for_a_uid(tmp_path: Path) -> None:
    # The kernel escapes a newline in the name.
    directory = Proc(tmp_path).process(5, comm="x\\nUid:\t0", uid=1000)
    assert procfs.read_uid(directory) == 1000


def test_a_command_line_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_bytes(b"a\0" * (1 << 20))
    assert procfs.read_cmdline(tmp_path) == b"a\0" * (1 << 17)


def test_no_cgroups_is_not_no_process(tmp_path: Path) -> None:
    assert procfs.read_cgroup(tmp_path) == b""
    with pytest.raises(FileNotFoundError):
        procfs.read_cgroup(tmp_path / "5")


def test_users_of_a_file_that_is_broken_in_places(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_bytes(b"root:x:0:0\n\n:\nb\xff:x:7:7\nno:x:-1:0\n+::::::\nother:x:0:1\n")
    assert procfs.read_users(path) == {0: "root", 7: "b\udcff"}
    assert procfs.read_users(tmp_path / "none") == {}


# ---- cgroups ----


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"0::/a/b.service\n", "/a/b.service"),
        (b"12:memory:/x\n1:name=systemd:/y\n0::/z\n", "/z"),
        (b"12:memory:/x\n", None),
        (b"", None),
        (b"0::/\n", "/"),
        (b"0::/a:b\xff\n", "/a:b\udcff"),
        # Of another cgroup namespace.
        (b"0::/../../a\n", None),
        (b"0::/..\n", None),
        (b"0::/a (deleted)\n", None),
        (b"0::/..a/b..\n", "/..a/b.."),
    ],
)
def test_unified_path(text: bytes, path: str | None) -> None:
    assert procfs.unified_path(text) == path


@pytest.mark.parametrize(
    ("limit", "current", "room"),
    [
        ("4096\n", "1000\n", 3096),
        ("4096\n", "5000\n", -904),
        ("max\n", "5000\n", None),
        ("4096\n", None, None),
        (None, "1\n", None),
        ("x\n", "1\n", None),
    ],
)
def test_room(tmp_path: Path, limit: str | None, current: str | None, room: int | None) -> None:
    directory = tmp_path / "fs/cgroup/a/b"
    directory.mkdir(parents=True)
    for name, text in (("memory.max", limit), ("memory.current", current)):
        if text is not None:
            (directory / name).write_text(text)
    rooms = CgroupRooms(tmp_path)
    for _ in range(2):
        assert rooms.read(["/a/b", "/none"]) == ({} if room is None else {"/a/b": room})


def test_rooms_follow_changes_and_keep_few_files_open(tmp_path: Path) -> None:
    paths = [f"/c{n}" for n in range(150)]
    for path in paths:
        directory = tmp_path / f"fs/cgroup{path}"
        directory.mkdir(parents=True)
        (directory / "memory.max").write_text("9000\n")
        (directory / "memory.current").write_text("1000\n")
    rooms = CgroupRooms(tmp_path)
    assert rooms.read(paths) == dict.fromkeys(paths, 8000)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "fs/cgroup/c0/memory.current").write_text("2000\n")
    (tmp_path / "fs/cgroup/c1/memory.max").write_text("max\n")
    found = rooms.read(paths[:2])
    assert found == {"/c0": 7000}
    assert opened - len(list(Path("/proc/self/fd").iterdir())) == 99
