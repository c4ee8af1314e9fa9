"""Kept programs: which files are trusted, how they are written, how many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.probes import kept_programs
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.compiled import Compiled, Instructions, encode
from ksmwatch.probes.kept_programs import MOST_FILES, KeptPrograms, key
from ksmwatch.probes.plan import Wish, choose
from tests.fakes import capable

ME = os.geteuid()
PROGRAMS = Compiled((), {"on_f": Instructions(b"12345678")})
OTHERS = Compiled((), {"on_f": Instructions(b"87654321")})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "state/programs"
    KeptPrograms(str(path), ME).keep("key", PROGRAMS)
    return path


@pytest.fixture
def kept(directory: Path) -> KeptPrograms:
    return KeptPrograms(str(directory), ME)


def only(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


# ---- what is found ----


def test_what_was_kept_is_found_again(kept: KeptPrograms, warnings: list[dict[str, Any]]) -> None:
    assert kept.find("key") == PROGRAMS
    assert kept.find("other") is None
    assert warnings == []


def test_a_directory_that_is_not_there_is_empty(
    tmp_path: Path, warnings: list[dict[str, Any]]
) -> None:
    assert KeptPrograms(str(tmp_path / "none"), ME).find("key") is None
    assert warnings == []


def test_a_file_that_was_brought_may_have_any_name(directory: Path, kept: KeptPrograms) -> None:
    (directory / "fleet.programs").write_bytes(encode("a", OTHERS) + encode("b", PROGRAMS))
    assert (kept.find("a"), kept.find("b"), kept.find("c")) == (OTHERS, PROGRAMS, None)


# ---- what is not trusted ----


def refused(kept: KeptPrograms, warnings: list[dict[str, Any]]) -> str:
    """The reason for which nothing is found; there is one line of the log."""
    assert kept.find("key") is None
    (line,) = warnings
    return str(line["why"])


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o2664])
def test_a_file_that_others_may_write_is_ignored(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]], mode: int
) -> None:
    only(directory).chmod(mode)
    assert refused(kept, warnings) == "others than root may write it"
    assert warnings[0]["path"] == str(only(directory))


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_that_others_may_write_is_ignored(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]], mode: int
) -> None:
    directory.chmod(mode)
    assert refused(kept, warnings) == "others than root may write it"
    assert warnings[0]["path"] == str(directory)


@pytest.mark.parametrize("of", ["directory", "file"])
def test_what_belongs_to_another_user_is_ignored(
    directory: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[dict[str, Any]], of: str
) -> None:
    real = os.fstat

    def fstat(fd: int) -> os.stat_result:
        found = real(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if (path == str(directory)) is (of == "directory"):
            return os.stat_result((*found[:4], 1234, *found[5:]))
        return found

    monkeypatch.setattr(os, "fstat", fstat)
    why = refused(KeptPrograms(str(directory), ME), warnings)
    assert why == "it belongs to uid 1234, not to root"


def test_a_symbolic_link_to_a_file_is_not_followed(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]]
) -> None:
    path = only(directory)
    real = path.rename(directory.parent / "elsewhere")
    path.symlink_to(real)
    assert "symbolic links" in refused(kept, warnings)


def test_a_symbolic_link_to_a_directory_is_not_followed(
    directory: Path, tmp_path: Path, warnings: list[dict[str, Any]]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    # As O_DIRECTORY says it.
    assert refused(KeptPrograms(str(link), ME), warnings) == "Not a directory"


@pytest.mark.parametrize(
    ("kind", "why"), [("directory", "Is a directory"), ("fifo", "it is not a regular file")]
)
def test_what_is_no_file_is_ignored(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]], kind: str, why: str
) -> None:
    path = only(directory)
    path.unlink()
    if kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert refused(kept, warnings) == why


def damaged(data: bytes) -> Iterator[bytes]:
    yield data[:-1]
    yield data[:20]
    yield b"\0" * len(data)
    yield data.replace(b"ksmwatch-programs 1", b"ksmwatch-programs 0")
    yield data[:-1] + b"!"


@pytest.mark.parametrize("number", range(5))
def test_a_damaged_file_is_ignored_and_written_anew(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]], number: int
) -> None:
    path = only(directory)
    path.write_bytes(list(damaged(path.read_bytes()))[number])
    assert refused(kept, warnings).startswith("it is ")
    kept.keep("key", PROGRAMS)
    assert kept.find("key") == PROGRAMS


def test_a_bad_file_does_not_hide_a_good_one(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]]
) -> None:
    (directory / "a.programs").write_bytes(b"nonsense")
    (directory / "c.programs").write_bytes(encode("b", OTHERS))
    assert kept.find("b") == OTHERS
    assert [line["path"] for line in warnings] == [str(directory / "a.programs")]


def test_a_huge_file_is_not_read(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]]
) -> None:
    os.truncate(only(directory), 1 << 30)
    assert refused(kept, warnings) == "it is too large"


# ---- writing ----


def test_nobody_else_may_write_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeptPrograms(str(tmp_path / "a/b"), ME).keep("key", PROGRAMS)
    finally:
        os.umask(before)
    assert only(tmp_path / "a/b").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "a/b").stat().st_mode & 0o022 == 0


def test_who_is_not_root_keeps_nothing(tmp_path: Path) -> None:
    KeptPrograms(str(tmp_path / "a"), ME + 1).keep("key", PROGRAMS)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_others_may_write(
    directory: Path, kept: KeptPrograms, warnings: list[dict[str, Any]]
) -> None:
    directory.chmod(0o777)
    kept.keep("more", PROGRAMS)
    assert len(list(directory.iterdir())) == 1
    assert warnings[0]["why"] == "others than root may write it"


def test_a_reader_never_sees_half_a_file(
    directory: Path, kept: KeptPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = os.rename

    def rename(source: str, target: str, **where: int) -> None:
        seen.append((kept.find("key"), kept.find("more")))
        real(source, target, **where)

    monkeypatch.setattr(os, "rename", rename)
    kept.keep("more", OTHERS)
    assert seen == [(PROGRAMS, None)]
    assert kept.find("more") == OTHERS


def test_a_full_disk_leaves_nothing_behind(
    directory: Path, kept: KeptPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*_: object, **where: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", rename)
    kept.keep("more", OTHERS)
    assert len(list(directory.iterdir())) == 1


def test_the_oldest_go(directory: Path, kept: KeptPrograms) -> None:
    stranger = directory / "README"
    stranger.write_text("not ours")
    left = directory / ".killed.programs.0123"
    left.write_bytes(b"half")
    for path in (stranger, left):
        os.utime(path, (0, 0))
    for number in range(MOST_FILES + 3):
        for path in directory.iterdir():
            old = path.stat().st_mtime_ns - 10**9
            os.utime(path, ns=(old, old))
        kept.keep(f"key{number}", PROGRAMS)
    names = {path.name for path in directory.iterdir()} - {"README"}
    assert names == {f"key{number}.programs" for number in range(3, MOST_FILES + 3)}
    assert stranger.exists()


# ---- the key ----


def keys(root: Path) -> list[str]:
    """Of what must not be mistaken for each other."""
    facts = capable()
    found = []
    moved = replace(facts, offsets={**facts.offsets, "page_mapping": 99})
    for host, wish, accounts in (
        (facts, Wish.AUTO, 64),
        (facts, Wish.KPROBE, 64),
        (facts, Wish.AUTO, 65),
        (moved, Wish.AUTO, 64),
    ):
        plan = choose(host, wish)
        found.append(key(plan, compile_flags(plan, host, accounts), root))
    return found


def test_another_plan_layout_or_size_has_another_key(tmp_path: Path) -> None:
    found = keys(tmp_path)
    assert found == keys(tmp_path)
    assert len(set(found)) == len(found)


def test_another_build_of_the_same_release_has_other_keys(tmp_path: Path) -> None:
    notes = tmp_path / "sys/kernel/notes"
    notes.parent.mkdir(parents=True)
    found = set(keys(tmp_path))
    for build in (b"one", b"two"):
        notes.write_bytes(build)
        found |= set(keys(tmp_path))
    assert len(found) == 3 * 4


@pytest.mark.parametrize("part", ["release", "version", "machine"])
def test_another_kernel_has_other_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    before = set(keys(tmp_path))
    here = os.uname()
    names = ("sysname", "nodename", "release", "version", "machine")
    changed = os.uname_result("x" if name == part else getattr(here, name) for name in names)
    monkeypatch.setattr(os, "uname", lambda: changed)
    assert not before & set(keys(tmp_path))


def test_changed_sources_have_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(keys(tmp_path))
    (tmp_path / "one.c").write_text("int f;")
    monkeypatch.setattr(kept_programs, "bpf_directory", lambda: tmp_path)
    assert not before & set(keys(tmp_path))
