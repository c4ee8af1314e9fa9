"""The loader process: its requests, its answers, and its failures."""

from __future__ import annotations

import ctypes as ct
import errno
import io
import json
import os
import resource
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch.counting.choose_backend import obstacle_of
from ksmwatch.counting.comeback import may_pass
from ksmwatch.errors import Exit, NoLiveError
from ksmwatch.kernel import libbpf
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.libbpf import PROG_TYPE_KPROBE, PROG_TYPE_TRACING, TRACE_FENTRY
from ksmwatch.probes import loader
from ksmwatch.probes.loader import Linked, Loaded, LoadedMap, ProgramRefusedError
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.plan import Program, choose
from tests.fakes import capable

# ---- the daemon's side ----

MAP = {"key_size": 8, "value_size": 24, "fields": [["id", 0, "Q"], ["moves", 8, "2Q"]]}


def test_descriptors_come_in_the_order_of_the_answer() -> None:
    answer = {"maps": {"accounts": MAP, "totals": {**MAP, "fields": []}}, "programs": ["a", "b"]}
    loaded = loader._loaded(answer, [11, 12, 13, 14], "")
    fields = (Field("id", 0, "Q"), Field("moves", 8, "2Q"))
    assert loaded == Loaded(
        {"accounts": LoadedMap(11, 8, 24, fields), "totals": LoadedMap(12, 8, 24, ())},
        {"a": 13, "b": 14},
    )


def test_a_refused_program_is_told_by_name_and_the_kernels_words() -> None:
    with pytest.raises(ProgramRefusedError) as caught:
        loader._loaded({"error": "R1 is no pointer", "program": "on_merge"}, [], "1 warning")
    assert (caught.value.program, caught.value.why) == ("on_merge", "R1 is no pointer")
    sentence = "The kernel refused the BPF program on_merge: R1 is no pointer."
    assert (str(caught.value), caught.value.status) == (sentence, Exit.NO_LIVE)


@pytest.mark.parametrize(
    ("words", "why"), [("x.c:1: error: no", "x.c:1: error: no"), ("", "Failed")]
)
def test_without_a_program_compiling_failed(words: str, why: str) -> None:
    with pytest.raises(NoLiveError) as caught:
        loader._loaded({"error": "Failed"}, [], words)
    assert not isinstance(caught.value, ProgramRefusedError)
    assert str(caught.value) == f"The BPF programs could not be compiled: {why}."


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_an_answer_may_come_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"maps"')
    theirs.sendall(b": {}}\n")
    assert loader._receive(ours) == ({"maps": {}}, [])


def test_descriptors_for_which_there_is_no_room_are_an_error_that_may_pass(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    handed_over = [os.memfd_create("map") for _ in range(4)]
    socket.send_fds(theirs, [b"{}\n"], handed_over)
    before = len(os.listdir("/proc/self/fd"))
    # The limit is one above the highest number that there may be: room for two.
    free = [os.dup(ours.fileno()) for _ in range(2)]
    room = max(int(name) for name in os.listdir("/proc/self/fd") if int(name) <= max(free)) + 1
    for descriptor in free:
        os.close(descriptor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            loader._receive(ours)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert may_pass(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before
    for descriptor in handed_over:
        os.close(descriptor)


def test_an_answer_that_never_ends_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b'{"maps"')
    theirs.close()
    with pytest.raises(ValueError, match="without an answer"):
        loader._receive(ours)


def test_a_loader_that_dies_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(NoLiveError) as caught:
        loader.load(choose(capable()), [])
    assert str(caught.value) == "The BPF loader failed: no memory."


# ---- the loader process ----

EXIT = bytes.fromhex("9500000000000000")
NOTHING = bytes.fromhex("b700000000000000") + EXIT
# r0 = r1; call of the helper that does not exist; exit
HOT = bytes.fromhex("bf10000000000000850000000000ff7f") + EXIT


def test_a_program_is_joined_with_its_rest() -> None:
    # src_reg is BPF_PSEUDO_CALL, and the rest is one instruction behind the next.
    called = bytes.fromhex("8510000001000000")
    assert loader.linked(HOT, NOTHING, NOTHING, 0).code == HOT[:8] + called + EXIT + NOTHING


def test_a_kernel_function_is_called_by_its_id() -> None:
    call, called = bytes.fromhex("8500000007000040"), bytes.fromhex("8520000007000000")
    assert loader.linked(call + EXIT, b"", NOTHING, 0) == Linked(called + EXIT)


def test_a_function_that_is_called_back_is_a_function_of_the_program() -> None:
    # r2 = the mark, which takes two instructions.
    load = bytes.fromhex("1802000021 6b6c61 00000000776d736b".replace(" ", ""))
    # src_reg is BPF_PSEUDO_FUNC, and two instructions are between this one and the function.
    loaded = bytes.fromhex("18420000020000000000000000000000")
    first = bytes.fromhex("bf21000000000000")
    found = loader.linked(load + EXIT, b"", NOTHING, 0)
    assert found == Linked(loaded + EXIT + first + NOTHING, (0, 3))


def test_the_page_in_conversion_is_loaded_from_its_map() -> None:
    # r3 = the mark, which takes two instructions.
    load = bytes.fromhex("1803000021766e63000000007 76d736b".replace(" ", ""))
    # src_reg is BPF_PSEUDO_MAP_VALUE, and the number is the map's descriptor.
    loaded = bytes.fromhex("18230000110000000000000000000000")
    found = loader.linked(load + EXIT, b"", NOTHING, 17)
    assert found == Linked(loaded + EXIT)


def test_other_numbers_are_numbers() -> None:
    load = bytes.fromhex("1802000021 6b6c62 00000000776d736b".replace(" ", ""))
    assert loader.linked(load + EXIT, b"", NOTHING, 0) == Linked(load + EXIT)


def test_what_calls_nothing_stays_as_it_is() -> None:
    assert loader.linked(NOTHING, EXIT, NOTHING, 0).code == NOTHING + EXIT


class Leaf(ct.Structure):
    """A record as bcc makes it."""

    _fields_ = (("id", ct.c_uint64), ("mappings", ct.c_int64), ("comm", ct.c_char * 16))


class FakeBcc:
    """A compiled module. Its descriptors are of real files, so that they can be sent."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, int, bytes, int, int]] = []
        self.refuses = ""
        self.fds: dict[str, int] = {}

    def _fd(self, name: str) -> int:
        self.fds[name] = os.memfd_create(name)
        return self.fds[name]

    def __getitem__(self, name: bytes) -> Any:
        leaf = Leaf if name == b"accounts" else ct.c_uint64
        return SimpleNamespace(Key=ct.c_uint32, Leaf=leaf, get_fd=lambda: self._fd(name.decode()))

    def dump_func(self, name: bytes) -> bytes:
        """Instructions; the one that is hot calls its rest."""
        return HOT if name == b"on_f" else NOTHING

    def load(
        self,
        name: str,
        kind: int,
        code: bytes,
        *,
        attach_type: int,
        function: int,
        functions: tuple[int, ...],
    ) -> int:
        """The kernel takes a program, or does not."""
        assert functions == ()
        if name == self.refuses:
            raise OSError(errno.EACCES, "R1 is no pointer")
        self.loaded.append((name, kind, code, attach_type, function))
        return self._fd(name)


@pytest.fixture
def bcc(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBcc]:
    """What the sources compile to."""
    module = FakeBcc()
    monkeypatch.setattr(loader, "_compile", lambda request: module)
    monkeypatch.setattr(libbpf, "prog_load", module.load)
    monkeypatch.setattr(loader, "_btf_ids", lambda programs: {"f": 7})
    yield module
    for fd in module.fds.values():
        os.close(fd)


REQUEST = {
    "flags": ["-DX"],
    "layout": "btf",
    "programs": [
        asdict(Program("on_f", Mechanism.FENTRY, "f", rest="rest_of_f")),
        asdict(Program("on_merge", Mechanism.KPROBE, "merge")),
    ],
}


def serve(pair: tuple[socket.socket, socket.socket]) -> tuple[dict[str, Any], list[int]]:
    """One request and its answer, through a real connection."""
    ours, theirs = pair
    ours.sendall(json.dumps(REQUEST).encode() + b"\n")
    loader._serve(theirs)
    return loader._receive(ours)


def name_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}").removeprefix("/memfd:").removesuffix(" (deleted)")


def test_what_was_loaded_arrives_under_its_name(
    bcc: FakeBcc, pair: tuple[socket.socket, socket.socket]
) -> None:
    answer, descriptors = serve(pair)
    try:
        loaded = loader._loaded(answer, descriptors, "")
        assert [name_of(m.fd) for m in loaded.maps.values()] == list(loader.MAPS)
        assert {name: name_of(fd) for name, fd in loaded.programs.items()} == {
            "on_f": "on_f",
            "on_merge": "on_merge",
        }
    finally:
        for fd in descriptors:
            os.close(fd)
    assert loaded.maps["accounts"].value_size == 32
    assert loaded.maps["accounts"].fields == (
        Field("id", 0, "Q"),
        Field("mappings", 8, "q"),
        Field("comm", 16, "16s"),
    )
    assert loaded.maps["totals"].fields == ()
    assert bcc.loaded == [
        ("on_f", PROG_TYPE_TRACING, loader.linked(HOT, NOTHING, b"", 0).code, TRACE_FENTRY, 7),
        ("on_merge", PROG_TYPE_KPROBE, NOTHING, 0, 0),
    ]


def test_a_refusal_is_answered_without_descriptors(
    bcc: FakeBcc, pair: tuple[socket.socket, socket.socket]
) -> None:
    bcc.refuses = "on_merge"
    answer, descriptors = serve(pair)
    assert (answer["error"], answer["program"]) == ("R1 is no pointer", "on_merge")
    assert descriptors == []


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


def test_a_library_that_has_no_room_is_told_in_words_by_which_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    """dlopen() by ctypes: an OSError with neither errno nor strerror."""
    words = "libLLVM-14.so.1: failed to map segment from shared object"

    def fail(request: object) -> None:
        raise OSError(words)

    monkeypatch.setattr(loader, "_compile", fail)
    answer, _ = serve(pair)
    assert answer == {"error": words}
    with pytest.raises(NoLiveError) as caught:
        loader._loaded(answer, [], "")
    assert obstacle_of(caught.value).passing


def test_who_has_the_answer_may_be_gone_when_all_of_it_was_sent() -> None:
    class Sock:
        """Its other end is closed as soon as the answer is there."""

        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(json.dumps(REQUEST).encode())

        def sendmsg(self, parts: list[bytes], ancillary: object) -> int:
            return len(parts[0])

        def sendall(self, data: bytes) -> None:
            raise BrokenPipeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "_compile", lambda _: 1 / 0)
        loader._serve(Sock())  # type: ignore[arg-type]


def test_an_error_without_words_is_named_by_its_kind(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    def fail(request: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loader, "_compile", fail)
    assert serve(pair) == ({"error": "MemoryError"}, [])


def test_the_sources_are_found_in_a_checkout() -> None:
    assert {path.name for path in loader.bpf_directory().glob("*.c")} == set(loader.SOURCES)
