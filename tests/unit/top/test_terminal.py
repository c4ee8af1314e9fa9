"""The application in a real terminal (tmux), on the socket of a made-up daemon."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fake_daemon import Server
from tests.terminal import Terminal

_ROOT = Path(__file__).resolve().parents[3]
# With a space, which a checkout's path may have too.
SOCKET = "a daemon"


def top(directory: Path, flags: str, environment: Mapping[str, str] | None = None) -> Terminal:
    """`ksmwatch top` of this checkout, on the daemon in this directory."""
    return Terminal(
        directory,
        [
            *(sys.executable, "-m", "ksmwatch", "top", "--socket", str(directory / SOCKET)),
            *("-d", "0.2", *flags.split()),
        ],
        {"PYTHONPATH": str(_ROOT), **(environment or {})},
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / SOCKET, 40) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    started: list[Terminal] = []
    yield started
    for terminal in started:
        terminal.tmux("kill-server")


def names(screen: str) -> list[str]:
    """Names in the rows of a screen by owner."""
    return re.findall(r"^[a-z]+ +[+-] (\S+) ", screen, re.MULTILINE)


def test_a_session(tmp_path: Path, daemon: Server, terminals: list[Terminal]) -> None:
    terminal = top(tmp_path, "")
    terminals.append(terminal)
    first = terminal.wait(lambda screen: len(names(screen)) == 7)
    assert first.startswith("ksmwatch live, kernel 7.3.9-test, ")
    assert all(len(line) <= 80 for line in first.splitlines())

    # A filter as one types; the keys of the table are letters then.
    terminal.press("/", "p", "g")
    terminal.wait(lambda screen: names(screen) == ["postgresql.ser…"])
    terminal.press("Enter", "u")
    terminal.wait(lambda screen: "Filter: pg  6 of 40 processes" in screen and "GiB" in screen)
    terminal.press("Escape")
    terminal.wait(lambda screen: len(names(screen)) == 7)

    terminal.press("N")
    terminal.wait(lambda screen: names(screen) == sorted(names(first), key=str.casefold))
    terminal.press("I", "r")
    terminal.wait(
        lambda screen: (
            names(screen) == sorted(names(first), key=str.casefold, reverse=True)
            and "CAME/s" in screen
        )
    )

    terminal.press("F5")
    terminal.wait(lambda screen: re.search(r"^ +1007 kvm", screen, re.MULTILINE))
    terminal.press("F5", "g", "g", "g", "g", "F1")
    terminal.wait(lambda screen: "how long ago the page tables were read" in screen)
    terminal.press("q")
    terminal.wait(
        lambda screen: re.search(r"^ +10\d\d container +redis-server", screen, re.MULTILINE)
    )

    # Another size, and back: details beside the table where there is room.
    terminal.tmux("resize-window", "-x", "160", "-y", "50")
    wide = terminal.wait(lambda screen: re.search(r"│ process +10", screen))
    assert len(wide.splitlines()) == 50
    terminal.tmux("resize-window", "-x", "80", "-y", "24")
    again = terminal.wait(lambda screen: re.search(r"^process +10", screen, re.MULTILINE))
    assert all(len(line) <= 80 for line in again.splitlines())
    assert "F10 Quit" in again.splitlines()[-1]

    terminal.press("F10")
    terminal.wait(lambda screen: "ended with 0" in screen)


def test_five_thousand_processes(tmp_path: Path, terminals: list[Terminal]) -> None:
    with Server(tmp_path / SOCKET, 5000) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            terminal = top(tmp_path, "-g process -s pid")
            terminals.append(terminal)
            terminal.wait(lambda screen: re.search(r"^ +1000 vm ", screen, re.MULTILINE))
            # The last row, of which only the visible neighbours are made.
            terminal.press("End")
            terminal.wait(lambda screen: re.search(r"^process +5999 ", screen, re.MULTILINE))
            terminal.press("/", "5", "8", "3", "7", "Enter")
            terminal.wait(lambda screen: "Filter: 5837  1 of 5000 processes" in screen)
            terminal.press("m")
            terminal.wait(lambda screen: "KSM pages of process 5837" in screen)
            terminal.press("Escape")
            terminal.wait(lambda screen: "KSM pages of" not in screen)
            terminal.press("Escape")
            terminal.wait(lambda screen: "Filter:" not in screen)
            terminal.press("I", "Home")
            terminal.tmux("resize-window", "-x", "160", "-y", "50")
            wide = terminal.wait(lambda screen: re.search(r"│ process +5999 ", screen))
            assert len(wide.splitlines()) == 50
            terminal.press("F5", "g")
            terminal.wait(lambda screen: re.search(r"^vm +- web ", screen, re.MULTILINE))
            terminal.press("q")
            terminal.wait(lambda screen: "ended with 0" in screen)
        finally:
            server.shutdown()
            thread.join()


def test_a_daemon_that_goes_and_comes_back(
    tmp_path: Path, daemon: Server, terminals: list[Terminal]
) -> None:
    path = tmp_path / SOCKET
    terminal = top(tmp_path, "-g process")
    terminals.append(terminal)
    terminal.wait(lambda screen: "1038" in screen)
    path.rename(tmp_path / "away")
    terminal.wait(lambda screen: re.search(r"^! LOST\. Shown: .* No daemon", screen, re.MULTILINE))
    assert "1038" in terminal.screen()
    (tmp_path / "away").rename(path)
    terminal.wait(lambda screen: "LOST" not in screen)
    terminal.press("C-c")
    terminal.wait(lambda screen: "ended with 0" in screen)


def colours(screen: str) -> set[str]:
    """Colours of text and ground in the escape sequences of a screen."""
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", screen) for code in found.split(";")}
    return {code for code in codes if re.fullmatch(r"[34][0-8]|9[0-7]|10[0-7]", code)}


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_the_terminals_own_or_none(
    tmp_path: Path,
    daemon: Server,
    terminals: list[Terminal],
    environment: dict[str, str],
    *,
    coloured: bool,
) -> None:
    terminal = top(tmp_path, "", environment)
    terminals.append(terminal)
    terminal.wait(lambda screen: len(names(screen)) == 7)
    screen = terminal.screen("-e")
    # No ground of our own, and no colour that dark or light terminals hide.
    assert colours(screen) <= {"31", "32", "35"}
    assert bool(colours(screen)) is coloured
    # The cursor and the heads are there in either case.
    assert "\x1b[7m" in screen
