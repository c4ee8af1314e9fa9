"""All probes are attached or none, each by its own system call."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from ksmwatch.kernel import libbpf
from ksmwatch.probes import attachments as module
from ksmwatch.probes.attachments import AttachError, Attachments
from ksmwatch.probes.persistence import Nowhere
from ksmwatch.probes.plan import Wish, choose
from tests.fakes import capable


class Kernel:
    """Attaches, and remembers what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attached: dict[int, tuple[object, ...]] = {}
        self.refuses: set[int] = set()
        # Attempts to come that find the function busy.
        self.busy = 0
        # Runs that were skipped by program, and hits that were missed by attachment.
        self.skipped: Counter[int] = Counter()
        self.missed: Counter[int] = Counter()
        self._next = 100
        monkeypatch.setattr(libbpf, "attach_kprobe", self._kprobe)
        monkeypatch.setattr(libbpf, "raw_tracepoint_open", self._raw_tracepoint)
        monkeypatch.setattr(libbpf, "link_program", self._link_program)
        monkeypatch.setattr(libbpf, "kprobe_missed", self._kprobe_missed)
        monkeypatch.setattr(libbpf, "prog_info", self._prog_info)
        monkeypatch.setattr(module, "os", SimpleNamespace(close=self.attached.pop))

    def _prog_info(self, fd: int) -> SimpleNamespace:
        return SimpleNamespace(id=fd + 1000, recursion_misses=self.skipped[fd])

    def _kprobe_missed(self, link: int) -> int:
        self._link_program(link)
        return self.missed[link]

    def _add(self, prog_fd: int, *what: object) -> int:
        if prog_fd in self.refuses:
            raise OSError(22, "attach: Invalid argument")
        if self.busy:
            self.busy -= 1
            raise OSError(16, "attach: Device or resource busy")
        self._next += 1
        self.attached[self._next] = (prog_fd, *what)
        return self._next

    def _link_program(self, link: int) -> int:
        if link not in self.attached:
            raise OSError(77, "link info: File descriptor in bad state")
        return int(str(self.attached[link][0])) + 1000

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


class FakeKeep(Nowhere):
    """Remembers what it keeps; `full`: keeps nothing more."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.full = False

    def store(self, name: str, fd: int) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.kept[name] = fd

    def drop(self, *names: str) -> None:
        for name in names:
            self.kept.pop(name, None)


@pytest.fixture
def keep() -> FakeKeep:
    return FakeKeep()


def test_fentry_takes_its_function_from_the_program(kernel: Kernel, keep: FakeKeep) -> None:
    Attachments(PROGRAMS, keep).attach(PLANS[Wish.FENTRY])
    kinds = [what for _, *what in kernel.attached.values()]
    assert kinds == [["tracing"]] * 17 + [["sched_process_fork"], ["cgroup_attach_task"]]


def test_kprobes_are_told_the_function_and_the_side(
    kernel: Kernel, keep: FakeKeep, tmp_path: Path
) -> None:
    merge = [probe for probe in PLANS[Wish.KPROBE] if probe.event == "merge"]
    Attachments(PROGRAMS, keep, sys=tmp_path).attach(merge)
    assert list(kernel.attached.values()) == [
        (PROGRAMS["on_merge"], "kprobe", "try_to_merge_one_page", False, tmp_path),
        (PROGRAMS["on_merge_return"], "kprobe", "try_to_merge_one_page", True, tmp_path),
    ]


def test_every_attachment_is_kept_by_name_until_it_is_detached(
    kernel: Kernel, keep: FakeKeep
) -> None:
    merge = [probe for probe in PLANS[Wish.KPROBE] if probe.event == "merge"]
    attachments = Attachments(PROGRAMS, keep)
    attachments.attach(merge)
    assert set(keep.kept) == {"link-on_merge", "link-on_merge_return"}
    assert set(keep.kept.values()) == set(kernel.attached)
    attachments.detach(merge)
    assert (keep.kept, kernel.attached) == ({}, {})
    attachments.detach(merge)


def test_what_cannot_be_kept_is_attached_and_counted(kernel: Kernel, keep: FakeKeep) -> None:
    keep.full = True
    attachments = Attachments(PROGRAMS, keep)
    attachments.attach(PLANS[Wish.FENTRY])
    assert attachments.unkept == len(kernel.attached) == 19


def test_what_has_not_ended_yet_is_attached_when_it_has(kernel: Kernel, keep: FakeKeep) -> None:
    """The kernel frees the link of a removed pin later, and refuses a second attachment."""
    merge = [probe for probe in PLANS[Wish.FENTRY] if probe.event == "merge"]
    attachments = Attachments(PROGRAMS, keep)
    attachments.attach(merge)
    attachments.detach(merge)
    kernel.busy = 3
    attachments.attach(merge)
    assert (kernel.busy, attachments.holds(merge)) == (0, True)


def test_what_somebody_else_holds_is_not_waited_for(kernel: Kernel, keep: FakeKeep) -> None:
    kernel.busy = 1
    with pytest.raises(AttachError, match="busy"):
        Attachments(PROGRAMS, keep).attach(PLANS[Wish.FENTRY])
    assert kernel.attached == {}


def test_what_never_ends_is_refused_at_last(
    kernel: Kernel, keep: FakeKeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FREED_SECONDS", 0.0)
    merge = [probe for probe in PLANS[Wish.FENTRY] if probe.event == "merge"]
    attachments = Attachments(PROGRAMS, keep)
    attachments.attach(merge)
    attachments.detach(merge)
    kernel.busy = 100
    with pytest.raises(AttachError, match="busy"):
        attachments.attach(merge)
    assert kernel.busy > 0


def test_one_refusal_takes_everything_off_again_and_names_the_probe(
    kernel: Kernel, keep: FakeKeep
) -> None:
    kernel.refuses = {PROGRAMS["on_merge_return"]}
    with pytest.raises(AttachError) as caught:
        Attachments(PROGRAMS, keep).attach(PLANS[Wish.FENTRY])
    assert caught.value.probe.event == "merge"
    assert (caught.value.errno, caught.value.strerror) == (22, "attach: Invalid argument")
    assert (keep.kept, kernel.attached) == ({}, {})


def test_a_link_counts_only_if_it_has_our_program(
    kernel: Kernel, keep: FakeKeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = [probe for probe in PLANS[Wish.KPROBE] if probe.event == "merge"]
    fork = [probe for probe in PLANS[Wish.KPROBE] if probe.event == "fork"]
    monkeypatch.setattr(libbpf, "prog_info", lambda fd: SimpleNamespace(id=fd + 1000))
    monkeypatch.setattr(libbpf, "link_program", lambda link: PROGRAMS["on_merge"] + 1000)
    links = {"on_merge": 50, "on_merge_return": 51}
    assert not Attachments(PROGRAMS, keep, links).holds(merge)
    assert not Attachments(PROGRAMS, keep, links).holds(fork)
    half = [merge[0]._replace(programs=merge[0].programs[:1])]
    assert Attachments(PROGRAMS, keep, links).holds(half)


def test_what_somebody_else_has_taken_off_is_missed_and_not_closed_again(
    kernel: Kernel, keep: FakeKeep
) -> None:
    attachments = Attachments(PROGRAMS, keep)
    attachments.attach(PLANS[Wish.FENTRY])
    assert attachments.first_lost(PLANS[Wish.FENTRY]) is None
    merge = next(probe for probe in PLANS[Wish.FENTRY] if probe.event == "merge")
    links = {program: number for number, (program, *_) in kernel.attached.items()}
    first, second = (links[PROGRAMS[program.name]] for program in merge.programs)
    del kernel.attached[first]
    # The number of this one belongs to another link now.
    kernel.attached[second] = (-1, "somebody else's")
    assert attachments.first_lost(PLANS[Wish.FENTRY]) == merge
    attachments.detach(PLANS[Wish.FENTRY])
    assert kernel.attached == {second: (-1, "somebody else's")}
    assert keep.kept == {}


def test_a_perf_event_without_a_link_counts_as_long_as_it_is_open(
    kernel: Kernel, keep: FakeKeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = next(probe for probe in PLANS[Wish.KPROBE] if probe.event == "merge")
    links = {program.name: 2000 + n for n, program in enumerate(merge.programs)}
    attachments = Attachments(PROGRAMS, keep, links)
    assert not attachments.holds([merge])
    monkeypatch.setattr(Path, "readlink", lambda self: Path("anon_inode:[perf_event]"))
    assert attachments.holds([merge])
    monkeypatch.setattr(Path, "readlink", lambda self: Path("socket:[1]"))
    assert not attachments.holds([merge])


def test_what_kprobes_have_missed_stays_counted_when_they_are_attached_anew(
    kernel: Kernel,
) -> None:
    attachments = Attachments(PROGRAMS, Nowhere())
    merge = [probe for probe in PLANS[Wish.KPROBE] if probe.event == "merge"]
    entry = merge[0].programs[0]
    attachments.attach(merge)
    kernel.skipped[PROGRAMS[entry.name]] = 5
    (link,) = (n for n, what in kernel.attached.items() if what[0] == PROGRAMS[entry.name])
    kernel.missed[link] = 2
    assert attachments.missed(entry) == 7
    attachments.detach(merge)
    assert attachments.missed(entry) == 7
    attachments.attach(merge)
    (link,) = (n for n, what in kernel.attached.items() if what[0] == PROGRAMS[entry.name])
    kernel.missed[link] = 1
    assert attachments.missed(entry) == 8
    # Somebody has closed it.
    del kernel.attached[link]
    assert attachments.missed(entry) == 7


def test_a_program_by_fentry_has_no_kprobe_that_could_miss(kernel: Kernel) -> None:
    attachments = Attachments(PROGRAMS, Nowhere())
    merge = [probe for probe in PLANS[Wish.FENTRY] if probe.event == "merge"]
    attachments.attach(merge)
    kernel.missed.update(dict.fromkeys(kernel.attached, 3))
    assert attachments.missed(merge[0].programs[0]) == 0
