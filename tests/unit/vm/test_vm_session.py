"""The relay: end marks, the console's memory, and when patience ends."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness.session import BOOT_SECONDS, DRAIN_SECONDS, Console, Session, Stream, held_back

MARK = b"\x1d\x1eabc"


def relayed(pieces: list[bytes]) -> tuple[bytes, bool]:
    got: list[bytes] = []
    stream = Stream(MARK, got.append)
    for piece in pieces:
        stream.feed(piece)
    return b"".join(got), stream.ended


@pytest.mark.parametrize("seed", range(20))
def test_output_is_exact_however_it_is_cut(seed: int) -> None:
    chance = random.Random(seed)
    output = bytes(chance.choice(MARK) for _ in range(500)).replace(MARK, b"")
    data = output + MARK
    pieces = []
    while data:
        size = chance.randint(1, 7)
        pieces.append(data[:size])
        data = data[size:]
    assert relayed(pieces) == (output, True)


def test_output_is_not_kept_waiting() -> None:
    assert relayed([b"prompt> "]) == (b"prompt> ", False)
    assert held_back(b"x\x1d", MARK) == 1
    assert held_back(b"x" + MARK[:-1], MARK) == len(MARK) - 1
    assert held_back(b"", MARK) == 0


def test_console_remembers_the_end_and_the_panic(tmp_path: Path) -> None:
    console = Console(tmp_path / "log")
    for number in range(40):
        console.feed(b"line %d\r\n" % number)
    console.feed(b"[ 1.0] Kernel pan")
    console.feed(b"ic - not syncing: \x1b[1mx\x1b[0m\r\nno newline")
    tail = console.tail()
    assert len(tail) == 30
    assert tail[-1] == "no newline"
    assert tail[0] == "line 12"
    assert console.panic == "Kernel panic - not syncing: x"
    assert (tmp_path / "log").read_bytes().startswith(b"line 0\r\n")


def test_patience() -> None:
    session = Session("6.1", "t", Console())
    session.started_at = 100.0
    assert session.deadline(None)[0] == 100.0 + BOOT_SECONDS
    assert session.deadline(5.0) == (105.0, "the 6.1 guest was not done after 5 s")
    session.feed("control", b"rea")
    session.feed("control", b"dy\n")
    assert session.deadline(None)[0] == float("inf")
    session.feed("control", b"status 77\n")
    assert session.status == 77
    assert session.deadline(None)[0] == session.status_at + DRAIN_SECONDS
    assert not session.complete()
