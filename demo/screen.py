"""The two ways of showing: redrawn in place on a terminal, or as plain lines."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Protocol

from demo import view

# Into the alternate screen, no line wrap, no cursor; and back.
ENTER = "\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[2J"
LEAVE = "\x1b[?25h\x1b[?7h\x1b[?1049l"
_REDRAW_SECONDS = 0.5


class Keyboard:
    """Keys, or nothing where stdin has ended. q ends the demo."""

    def __init__(self) -> None:
        self._open = True
        self.quit = False

    def wait(self, seconds: float) -> None:
        """Sleep this long, or until q is pressed."""
        deadline = time.monotonic() + seconds
        while not self.quit and (left := deadline - time.monotonic()) > 0:
            if not self._open:
                time.sleep(left)
            elif select.select([0], [], [], left)[0]:
                keys = os.read(0, 100)
                self._open = bool(keys)
                self.quit = b"q" in keys.lower()


class Screen(Protocol):
    """Where the demo is shown."""

    # Time between two looks at the numbers.
    redraw_seconds: float

    def waiting(self, what: str, seconds: float) -> None:
        """Something takes long; called again and again with the seconds so far."""

    def waited(self, what: str, seconds: float) -> None:
        """That is over."""

    def act(self, text: str) -> None:
        """An act begins."""

    def draw(self, frame: view.Frame) -> None:
        """The numbers of now."""

    def concluded(self, frame: view.Frame, verdict: str) -> None:
        """The numbers of a quiet moment, compared."""

    def close(self, last: view.Frame | None) -> None:
        """The show is over; what follows is printed in lines."""


def say(text: str) -> None:
    """One line, printed at once and not buffered."""
    print(text, flush=True)


def _print_table(frame: view.Frame, *, colour: bool) -> None:
    for line in [*view.host_lines(frame.host), *view.table(frame.rows)]:
        say(("  " + view.text(line, colour=colour)).rstrip())


class Lines:
    """Plain lines, for a file, a pipe or a log."""

    redraw_seconds = _REDRAW_SECONDS

    def waiting(self, what: str, seconds: float) -> None:
        """Say it once."""
        if seconds == 0:
            say(f"{what} ...")

    def waited(self, what: str, seconds: float) -> None:
        """Say how long it took."""
        say(f"{what}: {seconds:.0f} s")

    def act(self, text: str) -> None:
        """A new paragraph."""
        say(f"\n{text}")

    def draw(self, frame: view.Frame) -> None:
        """Only quiet moments are worth a line."""

    def concluded(self, frame: view.Frame, verdict: str) -> None:
        """The table and the verdict."""
        _print_table(frame, colour=False)
        say(f"  {verdict}")

    def close(self, last: view.Frame | None) -> None:
        """All has been said."""
        say("")


class Terminal:
    """Redraws a terminal. Its size is passed in, because it may be on another machine."""

    redraw_seconds = _REDRAW_SECONDS

    def __init__(self, size: tuple[int, int], *, colour: bool) -> None:
        self._size = size
        self._colour = colour
        self._entered = False

    def _now(self) -> tuple[int, int]:
        """Columns and lines; the terminal may have been resized, if it is here."""
        try:
            return os.get_terminal_size(0)
        except OSError:
            return self._size

    def waiting(self, what: str, seconds: float) -> None:
        """Count the seconds on one line."""
        print(f"\r\x1b[K{what} ... {seconds:.0f} s", end="", flush=True)

    def waited(self, what: str, seconds: float) -> None:
        """Leave that line there."""
        say(f"\r\x1b[K{what}: {seconds:.0f} s")

    def act(self, text: str) -> None:
        """The next drawing shows it."""

    def draw(self, frame: view.Frame) -> None:
        """Redraw everything in place."""
        columns, lines = self._now()
        shown = view.layout(frame, columns, lines)
        text = "\x1b[K\r\n".join(view.text(x, columns, colour=self._colour) for x in shown)
        sys.stdout.write(f"{'' if self._entered else ENTER}\x1b[H{text}\x1b[K\x1b[J")
        sys.stdout.flush()
        self._entered = True

    def concluded(self, frame: view.Frame, verdict: str) -> None:
        """The verdict is in the frame's history."""
        self.draw(frame)

    def close(self, last: view.Frame | None) -> None:
        """Leave the screen; keep the last table."""
        if self._entered:
            sys.stdout.write(LEAVE)
            sys.stdout.flush()
            self._entered = False
        if last is not None:
            for past in last.history:
                say(past)
            say("")
            _print_table(last, colour=self._colour)
            say("")
