"""What `ksmwatch record` copies of a host, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ksmwatch.commands import record as module
from ksmwatch.commands.record import record
from ksmwatch.errors import SourceError
from ksmwatch.kernel.facts import Facts
from tests.fakes import Proc, Sys, capable


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with one process that ksmd knows, and one that it does not."""
    monkeypatch.setattr(module, "read_facts", lambda root: capable())
    root = tmp_path / "host"
    root.mkdir()
    proc = Proc(root / "proc")
    (proc.process(10, merging=3, rmap_items=5) / "cmdline").write_bytes(b"a\0b\0")
    (proc.process(11) / "cmdline").write_bytes(b"a\0--password=x\0")
    # A kernel thread, and one that ends between listing and reading.
    (proc.process(12) / "ksm_stat").write_text("")
    (proc.path / "13").mkdir()
    (root / "proc/meminfo").write_text("MemTotal: 1 kB\n")
    Sys(root / "sys", pages_shared=7)
    return root


def files(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def test_files_stand_at_their_own_paths_as_they_were(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out/deeper"
    count = record(out, root)
    assert files(out) == {
        "facts.json",
        "root/proc/meminfo",
        "root/proc/10/cgroup",
        "root/proc/10/cmdline",
        "root/proc/10/comm",
        "root/proc/10/ksm_stat",
        "root/proc/10/smaps_rollup",
        "root/proc/10/stat",
        "root/proc/10/status",
        "root/sys/kernel/mm/ksm/pages_shared",
        "root/sys/kernel/mm/ksm/pages_sharing",
        "root/sys/kernel/mm/ksm/run",
    }
    assert count == len(files(out))
    assert (out / "root/proc/10/cmdline").read_bytes() == b"a\0b\0"
    assert (out / "root/sys/kernel/mm/ksm/pages_shared").read_text() == "7\n"


def test_facts_are_read_back_as_they_were(root: Path, tmp_path: Path) -> None:
    record(tmp_path / "out", root)
    found = Facts.from_json(json.loads((tmp_path / "out/facts.json").read_text()))
    assert found == capable()


def test_a_recording_of_a_recording_is_the_same(root: Path, tmp_path: Path) -> None:
    record(tmp_path / "one", root)
    record(tmp_path / "two", tmp_path / "one/root")
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_a_place_that_cannot_be_written_is_one_sentence(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError) as caught:
        record(tmp_path / "file/out", root)
    assert str(caught.value) == f"{tmp_path}/file/out cannot be written: Not a directory."


def test_a_directory_that_exists_is_left_alone(root: Path, tmp_path: Path) -> None:
    """CWE-59: links that somebody has planted there would be followed by root."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("precious")
    out.mkdir()
    (out / "facts.json").symlink_to(victim)
    for place in (out, tmp_path / "link"):
        if place != out:
            place.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SourceError) as caught:
            record(place, root)
        assert str(caught.value) == f"{place} cannot be written: File exists."
    assert victim.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_replaced_meanwhile_is_not_written_to(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def replaced(_: Path) -> Facts:
        out.rename(tmp_path / "moved")
        out.symlink_to(elsewhere)
        return capable()

    monkeypatch.setattr(module, "read_facts", replaced)
    record(out, root)
    assert files(elsewhere) == set()
    assert "facts.json" in files(tmp_path / "moved")
    assert (tmp_path / "moved").stat().st_mode & 0o777 == 0o700
