"""All probes are attached or none, each by its own system call."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ksmwatch import attach as module
from ksmwatch import libbpf
from ksmwatch.attach import AttachError, attach, detach
from ksmwatch.plan import Wish, choose
from tests.fakes import capable


class Kernel:
    """Attaches, and remembers what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attached: dict[int, tuple[object, ...]] = {}
        self.refuses: set[int] = set()
        self._next = 100
        monkeypatch.setattr(libbpf, "attach_kprobe", self._kprobe)
        monkeypatch.setattr(libbpf, "raw_tracepoint_open", self._raw_tracepoint)
        monkeypatch.setattr(module, "os", SimpleNamespace(close=self.attached.pop))

    def _add(self, prog_fd: int, *what: object) -> int:
        if prog_fd in self.refuses:
            raise OSError(22, "attach: Invalid argument")
        self._next += 1
        self.attached[self._next] = (prog_fd, *what)
        return self._next

    def _kprobe(self, prog_fd: int, symbol: str, *, at_return: bool, sys: Path) -> int:
        return self._add(prog_fd, "kprobe", symbol, at_return, sys)

    def _raw_tracepoint(self, prog_fd: int, name: str | None = None) -> int:
        return self._add(prog_fd, "tracing" if name is None else name)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that attaches everything."""
    return Kernel(monkeypatch)


PLANS = {wish: choose(capable(), wish).probes for wish in (Wish.FENTRY, Wish.KPROBE)}
PROGRAMS = {
    program.name: number
    for probes in PLANS.values()
    for number, program in enumerate((p for probe in probes for p in probe.programs), 1)
}


def test_fentry_takes_its_function_from_the_program(kernel: Kernel) -> None:
    links = attach(PLANS[Wish.FENTRY], PROGRAMS)
    assert set(links.values()) == set(kernel.attached)
    kinds = [what for _, *what in kernel.attached.values()]
    assert kinds == [["tracing"]] * 9 + [["sched_process_fork"]]


def test_kprobes_are_told_the_function_and_the_side(kernel: Kernel, tmp_path: Path) -> None:
    merge = [probe for probe in PLANS[Wish.KPROBE] if probe.event == "merge"]
    links = attach(merge, PROGRAMS, tmp_path)
    assert list(links) == ["on_merge", "on_merge_return"]
    assert list(kernel.attached.values()) == [
        (PROGRAMS["on_merge"], "kprobe", "try_to_merge_one_page", False, tmp_path),
        (PROGRAMS["on_merge_return"], "kprobe", "try_to_merge_one_page", True, tmp_path),
    ]


def test_one_refusal_takes_everything_off_again_and_names_the_probe(kernel: Kernel) -> None:
    kernel.refuses = {PROGRAMS["kretfunc__try_to_merge_one_page"]}
    with pytest.raises(AttachError) as caught:
        attach(PLANS[Wish.FENTRY], PROGRAMS)
    assert caught.value.probe.event == "merge"
    assert (caught.value.errno, caught.value.strerror) == (22, "attach: Invalid argument")
    assert kernel.attached == {}


def test_detaching_closes_every_link_once(kernel: Kernel) -> None:
    links = attach(PLANS[Wish.FENTRY], PROGRAMS)
    detach(links)
    assert (links, kernel.attached) == ({}, {})
    detach(links)
