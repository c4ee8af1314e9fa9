"""Pins: what is removed is gone when the call returns, also where the kernel removes it later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ksmwatch.kernel import bpf_maps, libbpf, new_maps
from ksmwatch.probes import pins as module
from ksmwatch.probes.pins import Pins


class Kernel:
    """A BPF file system in a directory. What is unpinned lives on for `later` looks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.later = 0
        # What is denied without capabilities: to look, or to create as well.
        self.denies: set[str] = set()
        self.looks = 0

    def pin(self, fd: int, path: str) -> None:
        Path(path).touch()

    def create(self, name: str, size: int) -> SimpleNamespace:
        if "create" in self.denies:
            raise PermissionError
        return SimpleNamespace(fd=os.open(os.devnull, os.O_RDONLY))

    def exists(self, number: int) -> bool:
        assert number == 7
        if "look" in self.denies:
            raise PermissionError
        # Everything is unpinned by now, and the witness last.
        assert not (self.directory / "witness").exists()
        self.looks += 1
        return self.looks <= self.later


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    monkeypatch.setattr(libbpf, "obj_pin", kernel.pin)
    monkeypatch.setattr(bpf_maps, "identity", lambda _: 7)
    monkeypatch.setattr(bpf_maps, "exists", kernel.exists)
    monkeypatch.setattr(new_maps, "array", kernel.create)
    yield kernel
    assert len(os.sched_getaffinity(0)) == len(ALLOWED)


ALLOWED = os.sched_getaffinity(0)


def test_a_removed_pin_is_waited_for(kernel: Kernel) -> None:
    kernel.later = 3
    pins = Pins(kernel.directory)
    for name in ("link-a", "link-b", "map-c"):
        pins.store(name, 0)
    assert kernel.looks == 0
    pins.drop("link-a", "link-b", "link-unknown")
    assert kernel.looks == 4
    assert [path.name for path in kernel.directory.iterdir()] == ["map-c"]


def test_what_was_not_pinned_is_not_waited_for(kernel: Kernel) -> None:
    Pins(kernel.directory).drop("link-a")
    assert kernel.looks == 0


def test_everything_is_cleared_and_waited_for(kernel: Kernel) -> None:
    pins = Pins(kernel.directory)
    for name in ("map-c", "link-a"):
        pins.store(name, 0)
    pins.clear()
    assert list(kernel.directory.iterdir()) == []
    assert kernel.looks == 1


@pytest.mark.parametrize("denies", [{"look"}, {"look", "create"}])
def test_who_may_not_have_a_witness_does_not_wait(kernel: Kernel, denies: set[str]) -> None:
    kernel.denies = denies
    pins = Pins(kernel.directory)
    pins.store("link-a", 0)
    pins.drop("link-a")
    assert list(kernel.directory.iterdir()) == []


def test_a_kernel_that_removes_nothing_is_an_error(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FREED_SECONDS", 0.0)
    kernel.later = 10**9
    pins = Pins(kernel.directory)
    pins.store("link-a", 0)
    with pytest.raises(TimeoutError, match="does not remove pins"):
        pins.drop("link-a")


def test_a_witness_that_a_killed_daemon_left_is_nothing_that_was_kept(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libbpf, "obj_get", lambda path: len(Path(path).name))
    (kernel.directory / "witness").touch()
    pins = Pins(kernel.directory)
    pins.store("link-a", 0)
    assert pins.load() == {"link-a": 6}


def test_one_pin_is_opened_if_it_is_there(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libbpf, "obj_get", {str(kernel.directory / "map-a"): 5}.__getitem__)
    pins = Pins(kernel.directory)
    pins.store("map-a", 0)
    assert (pins.open("map-a"), pins.open("map-b")) == (5, None)
