"""The compiler process: what is asked of it, what it answers, and how it fails."""

from __future__ import annotations

import ctypes as ct
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch.errors import NoLiveError
from ksmwatch.kernel import libbpf
from ksmwatch.probes import compiler
from ksmwatch.probes.compiled import Compiled, Instructions, MapShape, encode
from ksmwatch.probes.compiler import compile_programs, linked
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.plan import choose
from tests.fakes import capable

# ---- the daemon's side ----


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def answered_by(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is this shell script. Its channel's number is its last argument."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/bash\nfd=${{@: -1}}\nread -r request <&$fd\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_compiler_that_dies_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered_by("echo no memory >&2; exit 1", tmp_path, monkeypatch)
    with pytest.raises(NoLiveError) as caught:
        compile_programs(choose(capable()), [])
    assert str(caught.value) == "The BPF compiler failed: no memory."
    assert caught.value.passing


@pytest.mark.parametrize(
    ("words", "why"), [("x.c:1: error: no", "x.c:1: error: no"), ("", "Failed")]
)
def test_what_does_not_compile_is_told_in_the_compilers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, why: str
) -> None:
    script = f"echo '{words}' >&2; printf '{{\"error\": \"Failed\"}}' >&$fd"
    answered_by(script, tmp_path, monkeypatch)
    with pytest.raises(NoLiveError) as caught:
        compile_programs(choose(capable()), [])
    assert str(caught.value) == f"The BPF programs could not be compiled: {why}."
    assert not caught.value.passing


@pytest.mark.parametrize("cut", [1, 10])
def test_half_an_answer_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    (tmp_path / "answer").write_bytes(encode("-", Compiled((), {}))[:-cut])
    answered_by(f"cat {tmp_path}/answer >&$fd", tmp_path, monkeypatch)
    with pytest.raises(NoLiveError, match=r"^The BPF compiler failed: it is cut off\.$"):
        compile_programs(choose(capable()), [])


def test_an_answer_may_come_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    answer = encode("-", Compiled((), {"on_f": Instructions(b"12345678")}))
    theirs.sendall(answer[:5])
    theirs.sendall(answer[5:])
    theirs.close()
    found, _ = compiler._answer(compiler._receive(ours))
    assert found == Compiled((), {"on_f": Instructions(b"12345678")})


# ---- linking ----

EXIT = bytes.fromhex("9500000000000000")
NOTHING = bytes.fromhex("b700000000000000") + EXIT
# r0 = r1; call of the helper that does not exist; exit
HOT = bytes.fromhex("bf10000000000000850000000000ff7f") + EXIT
# r1 = a map, by bcc's descriptor 33, which takes two instructions.
MAP_LOAD = bytes.fromhex("18110000210000000000000000000000")
# The same, by the place 5.
MAP_PLACE = bytes.fromhex("18110000050000000000000000000000")


def test_a_program_is_joined_with_its_rest() -> None:
    # src_reg is BPF_PSEUDO_CALL, and the rest is one instruction behind the next.
    called = bytes.fromhex("8510000001000000")
    expected = HOT[:8] + called + EXIT + NOTHING
    assert linked(HOT, NOTHING, NOTHING, {}, 0).words == expected


def test_a_kernel_function_is_called_by_its_id() -> None:
    call, called = bytes.fromhex("8500000007000040"), bytes.fromhex("8520000007000000")
    assert linked(call + EXIT, b"", NOTHING, {}, 0) == Instructions(called + EXIT)


def test_a_function_that_is_called_back_is_a_function_of_the_program() -> None:
    # r2 = the mark, which takes two instructions.
    load = bytes.fromhex("1802000021 6b6c61 00000000776d736b".replace(" ", ""))
    # src_reg is BPF_PSEUDO_FUNC, and two instructions are between this one and the function.
    loaded = bytes.fromhex("18420000020000000000000000000000")
    first = bytes.fromhex("bf21000000000000")
    found = linked(load + EXIT, b"", MAP_LOAD + EXIT, {33: 5}, 0)
    assert found == Instructions(loaded + EXIT + first + MAP_PLACE + EXIT, (0, 3))


def test_the_page_in_conversion_is_loaded_from_its_map() -> None:
    # r3 = the mark, which takes two instructions.
    load = bytes.fromhex("1803000021766e63000000007 76d736b".replace(" ", ""))
    # src_reg is BPF_PSEUDO_MAP_VALUE, and the number is the map's place.
    loaded = bytes.fromhex("18230000110000000000000000000000")
    assert linked(load + EXIT, b"", NOTHING, {}, 17) == Instructions(loaded + EXIT)


def test_an_addition_at_the_mark_has_a_result() -> None:
    # lock *(u64 *)(r2 + MARK) += r1, and the same with another offset.
    marked, other = bytes.fromhex("db12736b00000000"), bytes.fromhex("db12086b00000000")
    # BPF_ADD | BPF_FETCH, and the offset is 0.
    fetching = bytes.fromhex("db12000001000000")
    expected = Instructions(fetching + other + EXIT)
    assert linked(marked + other + EXIT, b"", NOTHING, {}, 0) == expected


def test_maps_are_named_by_their_place_in_all_parts() -> None:
    found = linked(MAP_LOAD + HOT, MAP_LOAD + EXIT, NOTHING, {33: 5}, 0).words
    assert found.count(MAP_PLACE) == 2
    assert MAP_LOAD not in found


def test_other_numbers_are_numbers() -> None:
    load = bytes.fromhex("1802000021 6b6c62 00000000776d736b".replace(" ", ""))
    assert linked(load + EXIT, b"", NOTHING, {}, 0) == Instructions(load + EXIT)


def test_what_calls_nothing_stays_as_it_is() -> None:
    assert linked(NOTHING, EXIT, NOTHING, {}, 0).words == NOTHING + EXIT


# ---- what runs in the compiler process ----


class Leaf(ct.Structure):
    """A record as bcc makes it."""

    _fields_ = (("id", ct.c_uint64), ("mappings", ct.c_int64), ("comm", ct.c_char * 16))


class FakeBcc:
    """A compiled module, and the library that tells of its maps."""

    module = 1
    names = (b"accounts", b"converting", b"watches")

    def __getitem__(self, name: bytes) -> Any:
        leaf = Leaf if name in (b"accounts", b"watches") else ct.c_uint64
        return SimpleNamespace(Leaf=leaf, get_fd=lambda: 33 + self.names.index(name))

    def dump_func(self, name: bytes) -> bytes:
        """Instructions; the one that is hot calls its rest."""
        return {b"on_f": HOT, b"rest_of_f": MAP_LOAD + EXIT}.get(name, NOTHING)

    # The C interface of libbcc.

    def bpf_num_tables(self, module: int) -> int:
        """How many maps there are."""
        return len(self.names)

    def bpf_table_name(self, module: int, number: int) -> bytes:
        return self.names[number]

    def bpf_table_type_id(self, module: int, number: int) -> int:
        return number

    def bpf_table_key_size_id(self, module: int, number: int) -> int:
        return 4

    def bpf_table_leaf_size_id(self, module: int, number: int) -> int:
        return 32

    def bpf_table_max_entries_id(self, module: int, number: int) -> int:
        return 64

    def bpf_table_flags_id(self, module: int, number: int) -> int:
        """No preallocation."""
        return 1


REQUEST = {
    "flags": ["-DX"],
    "layout": "btf",
    "programs": [("on_f", "rest_of_f"), ("on_merge", None)],
}


def serve(pair: tuple[socket.socket, socket.socket]) -> tuple[Compiled | None, str]:
    """One request and its answer, through a real connection."""
    ours, theirs = pair
    ours.sendall(json.dumps(REQUEST).encode() + b"\n")
    compiler._serve(theirs)
    theirs.close()
    return compiler._answer(compiler._receive(ours))


def test_what_was_compiled_arrives_whole(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    bcc = FakeBcc()
    monkeypatch.setattr(compiler, "_compile", lambda request: (bcc, bcc))
    fields = (Field("id", 0, "Q"), Field("mappings", 8, "q"), Field("comm", 16, "16s"))
    at_place = libbpf.INSTRUCTION.pack(0x18, 0x11, 0, 0) + bytes(8)
    called = bytes.fromhex("8510000001000000")
    expected = Compiled(
        (
            MapShape("accounts", 0, 4, 32, 64, 1, fields),
            MapShape("converting", 1, 4, 32, 64, 1),
            # Nobody but the programs reads this one.
            MapShape("watches", 2, 4, 32, 64, 1),
        ),
        {
            "on_f": Instructions(HOT[:8] + called + EXIT + at_place + EXIT),
            "on_merge": Instructions(NOTHING),
        },
    )
    assert serve(pair) == (expected, "")


@pytest.mark.parametrize(
    ("error", "why"),
    [(MemoryError(), "MemoryError"), (OSError(2, "No such file"), "No such file")],
)
def test_a_failure_is_told(
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[socket.socket, socket.socket],
    error: Exception,
    why: str,
) -> None:
    def fail(request: object) -> None:
        raise error

    monkeypatch.setattr(compiler, "_compile", fail)
    assert serve(pair) == (None, why)
