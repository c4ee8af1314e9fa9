"""The loader: what the kernel is given, and that nothing stays when it refuses something."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ksmwatch.errors import Exit
from ksmwatch.kernel import libbpf, new_maps
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.libbpf import (
    F_SLEEPABLE,
    PROG_TYPE_KPROBE,
    PROG_TYPE_RAW_TRACEPOINT,
    PROG_TYPE_SYSCALL,
    PROG_TYPE_TRACING,
    TRACE_FENTRY,
    TRACE_FEXIT,
    TRACE_ITER,
)
from ksmwatch.probes.compiled import Compiled, Instructions, MapShape
from ksmwatch.probes.loader import LoadedMap, ProgramOrigin, ProgramRefusedError, load, with_maps
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.plan import LEARNER, Access, Program
from ksmwatch.probes.sources import SOURCES, bpf_directory

EXIT = bytes.fromhex("9500000000000000")


class FakeKernel:
    """Takes maps and programs. Descriptors are of real files, so that it shows if one stays."""

    def __init__(self) -> None:
        self.maps: list[tuple[Any, ...]] = []
        self.programs: list[tuple[Any, ...]] = []
        self.refuses = ""
        self.errno = errno.EACCES
        # Descriptors, also of what is closed by now.
        self.numbers: dict[str, int] = {}

    def _fd(self, name: str) -> int:
        if name == self.refuses:
            raise OSError(self.errno, "R1 is no pointer")
        self.numbers[name] = os.memfd_create(name)
        return self.numbers[name]

    def create(self, *what: Any) -> int:
        self.maps.append(what)
        return self._fd(what[0])

    def load(self, name: str, kind: int, code: bytes, **options: Any) -> int:
        """Take a program, or not."""
        self.programs.append((name, kind, code, options))
        return self._fd(name)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(new_maps, "create", fake.create)
    monkeypatch.setattr(libbpf, "prog_load", fake.load)
    return fake


def files() -> dict[int, str]:
    """Open descriptors of the fake kernel, and their names."""
    found = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
        if path.startswith("/memfd:"):
            found[fd] = path.removeprefix("/memfd:").removesuffix(" (deleted)")
    return found


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    for fd in files():
        os.close(fd)


# r1 = the map at place 1; r2 = the value of the map at place 0
LOADS = bytes.fromhex("1811000001000000000000000000000018220000000000000000000000000000")
COMPILED = Compiled(
    (
        MapShape("accounts", 1, 8, 104, 64, 1, (Field("id", 0, "Q"),)),
        MapShape("watches", 2, 4, 40, 1, 0),
    ),
    {
        "on_f": Instructions(LOADS + EXIT, (0, 3)),
        "on_f_return": Instructions(EXIT),
        "on_merge": Instructions(EXIT),
        "on_fork": Instructions(EXIT),
        "access_accounts": Instructions(EXIT),
        "list_accounts": Instructions(EXIT),
        LEARNER: Instructions(EXIT),
    },
)
PLAN = [
    Program("on_f", Mechanism.FENTRY, "f", rest="rest_of_f"),
    Program("on_f_return", Mechanism.FENTRY, "f", at_return=True),
    Program("on_merge", Mechanism.KPROBE, "merge"),
    Program("on_fork", Mechanism.RAW_TRACEPOINT, "fork"),
    Program("access_accounts", Access.SYSCALL, ""),
    Program("list_accounts", Access.ITERATOR, "elements"),
    Program(LEARNER, Mechanism.FENTRY, "f"),
]


@pytest.mark.parametrize("origin", [ProgramOrigin.COMPILED, ProgramOrigin.KEPT])
def test_what_was_loaded_has_its_name(kernel: FakeKernel, origin: ProgramOrigin) -> None:
    loaded = load(COMPILED, PLAN, {"f": 7, "merge": 8}, origin)
    accounts = loaded.maps["accounts"]
    assert accounts == LoadedMap(accounts.fd, 8, 104, (Field("id", 0, "Q"),))
    held = files()
    assert {name: held[fd] for name, fd in loaded.programs.items()} == {
        program.name: program.name for program in PLAN if program.name != LEARNER
    }
    assert loaded.learner is not None
    assert (held[accounts.fd], held[loaded.learner]) == ("accounts", LEARNER)
    # What only programs use is theirs.
    assert "watches" not in held.values()
    assert set(loaded.maps) == {"accounts"}
    assert loaded.origin is origin


def test_the_kernel_is_told_all_of_it(kernel: FakeKernel) -> None:
    load(COMPILED, PLAN, {"f": 7, "merge": 8, "elements": 9}, ProgramOrigin.KEPT)
    assert kernel.maps == [("accounts", 1, 8, 104, 64, 1), ("watches", 2, 4, 40, 1, 0)]
    kinds = {name: (kind, options) for name, kind, _, options in kernel.programs}
    fentry = {"attach_type": TRACE_FENTRY, "function": 7, "functions": (), "flags": 0}
    other = {"attach_type": 0, "function": 0, "functions": (), "flags": 0}
    assert kinds == {
        "on_f": (PROG_TYPE_TRACING, {**fentry, "functions": (0, 3)}),
        "on_f_return": (PROG_TYPE_TRACING, {**fentry, "attach_type": TRACE_FEXIT}),
        "on_merge": (PROG_TYPE_KPROBE, other),
        "on_fork": (PROG_TYPE_RAW_TRACEPOINT, other),
        "access_accounts": (PROG_TYPE_SYSCALL, {**other, "flags": F_SLEEPABLE}),
        "list_accounts": (PROG_TYPE_TRACING, {**fentry, "attach_type": TRACE_ITER, "function": 9}),
        LEARNER: (PROG_TYPE_TRACING, fentry),
    }
    numbers = [kernel.numbers["accounts"], kernel.numbers["watches"]]
    assert kernel.programs[0][2] == with_maps(LOADS + EXIT, numbers)


def test_places_of_maps_become_descriptors() -> None:
    expected = bytes.fromhex("1811000063000000000000000000000018220000070000000000000000000000")
    assert with_maps(LOADS + EXIT, [7, 99]) == expected + EXIT
    # A number that is no map, and a call.
    others = bytes.fromhex("180100000100000000000000000000008510000001000000")
    assert with_maps(others, [7, 99]) == others


def test_a_refused_program_is_told_by_name_and_the_kernels_words(kernel: FakeKernel) -> None:
    kernel.refuses = "on_merge"
    with pytest.raises(ProgramRefusedError) as caught:
        load(COMPILED, PLAN, {"f": 7}, ProgramOrigin.KEPT)
    assert (caught.value.program, caught.value.why) == ("on_merge", "R1 is no pointer")
    sentence = "The kernel refused the BPF program on_merge: R1 is no pointer."
    assert (str(caught.value), caught.value.status) == (sentence, Exit.NO_LIVE)
    assert files() == {}


def test_a_refused_map_is_an_error_of_its_own(kernel: FakeKernel) -> None:
    kernel.refuses = "watches"
    with pytest.raises(OSError, match="R1 is no pointer"):
        load(COMPILED, PLAN, {"f": 7}, ProgramOrigin.KEPT)
    assert files() == {}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_few_descriptors_are_no_refusal_of_a_program(kernel: FakeKernel, number: int) -> None:
    kernel.refuses, kernel.errno = "on_merge", number
    with pytest.raises(OSError, match="R1 is no pointer") as caught:
        load(COMPILED, PLAN, {"f": 7}, ProgramOrigin.KEPT)
    assert caught.value.errno == number
    assert files() == {}


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        (
            "0: (bf) r0 = r1\nR1 is no pointer\nprocessed 1 insns (limit 1000000)\n",
            "R1 is no pointer",
        ),
        ("", ""),
    ],
)
def test_the_verdict_stands_before_the_verifiers_statistics(log: str, verdict: str) -> None:
    assert libbpf.verdict(log) == verdict


def test_the_sources_are_found_in_a_checkout() -> None:
    assert {path.name for path in bpf_directory().glob("*.c")} == set(SOURCES)
