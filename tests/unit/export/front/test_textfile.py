"""The file for node_exporter: whole or not there, never old."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.export.front.textfile import File
from ksmwatch.log import logger
from tests.fake_front import Served
from tests.waiting import Deadline


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged: a level for each line."""
    lines: list[str] = []
    for level in ("error", "info"):
        monkeypatch.setattr(logger, level, lambda _, extra, level=level: lines.append(level))
    return lines


def test_it_is_replaced_whole_and_readable_for_all(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        file = File(tmp_path)
        file.write(b"one\n")
        path = tmp_path / "ksmwatch.prom"
        first = path.stat()
        file.write(b"two\n")
    finally:
        os.umask(previous)
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_ino != first.st_ino
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["ksmwatch.prom"]
    file.remove()
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_anew_is_removed_and_counted(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(tmp_path)
    file.write(b"one\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for _ in range(3):
            file.write(b"two\n")
        assert os.listdir(tmp_path) == []
    file.write(b"three\n")
    assert (tmp_path / "ksmwatch.prom").read_bytes() == b"three\n"
    assert file.failures == 3
    assert told == ["error", "info"]


def test_a_directory_that_vanishes_and_comes_back(tmp_path: Path, told: list[str]) -> None:
    directory = tmp_path / "textfile"
    file = File(directory)
    file.write(b"one\n")
    file.write(b"one\n")
    directory.mkdir()
    file.write(b"two\n")
    assert (file.failures, told) == (2, ["error", "info"])


def test_no_link_is_followed(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "ksmwatch.prom.new").symlink_to(tmp_path / "victim")
    file = File(tmp_path)
    file.write(b"one\n")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "ksmwatch.prom").read_bytes() == b"one\n"
    assert (file.failures, told) == (0, [])


def test_a_file_of_somebody_else_does_not_become_ours(tmp_path: Path, told: list[str]) -> None:
    planted = tmp_path / "ksmwatch.prom.new"
    # A fifo would let the front wait for a reader.
    os.mkfifo(planted)
    File(tmp_path).write(b"one\n")
    planted.write_text("")
    with planted.open("a") as theirs:
        File(tmp_path).write(b"two\n")
        theirs.write("three\n")
    assert (tmp_path / "ksmwatch.prom").read_bytes() == b"two\n"


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = Deadline(600)
    while not condition():
        assert not deadline.passed
        time.sleep(0.05)


def test_a_real_front_writes_and_takes_its_file_along(tmp_path: Path) -> None:
    path = tmp_path / "ksmwatch.prom"
    path.write_text("ksmwatch_of_a_killed_one 1\n")
    with Served(textfile_directory=tmp_path, textfile_interval=1) as served:
        wait_for(lambda: path.exists() and "ksmwatch_mappings 100" in path.read_text())
        families = {family.name for family in text_string_to_metric_families(path.read_text())}
        assert {name.partition("_")[0] for name in families} == {"ksmwatch"}
        first = path.stat().st_ino
        wait_for(lambda: path.exists() and path.stat().st_ino != first)
        path.unlink()
        path.mkdir()
        wait_for(lambda: served.losses["textfile_unwritten"] >= 2)
        path.rmdir()
        wait_for(path.is_file)
    assert os.listdir(tmp_path) == []
    assert served.losses["front_lost"] == 0
