"""What a process says of itself is what the kernel says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ksmwatch.export import own_resources


@pytest.mark.parametrize("listed", [False, True], ids=["here", "before-6.2"])
def test_every_open_descriptor_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, listed: bool
) -> None:
    if listed:
        # A directory with as many entries, and the size that the kernel gave then.
        for name in map(str, range(5)):
            (tmp_path / name).touch()
        sizeless = os.stat_result((0,) * 10)
        monkeypatch.setattr(own_resources, "_DESCRIPTORS", str(tmp_path))
        monkeypatch.setattr(os, "stat", lambda path: sizeless)
    before = _open_fds()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    for name in "abc" if listed else ():
        (tmp_path / name).touch()
    assert _open_fds() == before + 3
    if listed:
        assert before == 4
    for fd in fds:
        os.close(fd)


def _open_fds() -> float:
    samples = dict(own_resources.samples("x"))
    return samples["x_open_fds"][0][1]


def test_memory_is_in_bytes() -> None:
    samples = dict(own_resources.samples("x"))
    (((), virtual),) = samples["x_virtual_memory_bytes"]
    (((), resident),) = samples["x_resident_memory_bytes"]
    assert virtual > resident > 1 << 20
