"""Files that stay open and are read again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ksmwatch.kernel import kept_file
from ksmwatch.kernel.kept_file import KeptFile


@pytest.mark.parametrize("size", [0, 5, 99, 100, 101, 350])
def test_it_is_read_whole_and_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(kept_file, "_PIECE", 100)
    path = tmp_path / "file"
    file = KeptFile(str(path))
    with pytest.raises(FileNotFoundError):
        file.read()
    for letter in b"ab":
        path.write_bytes(bytes([letter]) * size)
        assert file.read() == path.read_bytes()


def test_a_file_of_the_kernel_is_made_anew_each_time() -> None:
    file, whole = KeptFile("/proc/self/status"), Path("/proc/self/status").read_text
    os.umask(mask := os.umask(0o123))
    try:
        for umask in (0o027, 0o077):
            os.umask(umask)
            assert f"Umask:\t{umask:04o}\n" in file.read().decode()
            assert f"Umask:\t{umask:04o}\n" in whole()
    finally:
        os.umask(mask)


def test_the_next_one_at_its_path_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a cgroup that was removed and made again."""
    path = tmp_path / "file"
    path.write_text("first")
    file = KeptFile(str(path))
    assert file.read() == b"first"
    path.unlink()
    path.write_text("second")
    pread, failures = os.pread, [OSError(errno.ENODEV, "removed")]

    def fail_once(fd: int, size: int, at: int) -> bytes:
        if failures:
            raise failures.pop()
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", fail_once)
    assert file.read() == b"second"
    failures.append(OSError(errno.EIO, "broken"))
    with pytest.raises(OSError, match="broken"):
        file.read()
    assert file.read() == b"second"


def test_it_is_closed_with_the_last_reference() -> None:
    before = set(os.listdir("/proc/self/fd"))
    file = KeptFile("/proc/self/status")
    file.read()
    assert len(set(os.listdir("/proc/self/fd")) - before) == 1
    del file
    assert set(os.listdir("/proc/self/fd")) == before
