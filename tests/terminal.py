"""A terminal in which a program runs, by tmux: its keys and its screen."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.waiting import wait_until

_NOT_PASSED_ON = {"TMUX", "NO_COLOR"}


class Terminal:
    """A tmux of its own, with a command in its only window."""

    def __init__(
        self, directory: Path, words: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """The command runs in the current directory. `environment` is added to its own."""
        self._socket = str(directory / "tmux")
        added = [f"{name}={value}" for name, value in (environment or {}).items()]
        # So that the status can be seen.
        command = f"{shlex.join(['env', *added, *words])}; echo ended with $?; cat"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)

    def tmux(self, *words: str) -> str:
        """A command of tmux, and what it says."""
        # Not into a tmux around us; and a size that is exported stands above the terminal's own.
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words],
            check=True,
            capture_output=True,
            text=True,
            env={**environment, "LC_ALL": "C.UTF-8"},
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self.tmux("send-keys", *keys)

    def screen(self, *flags: str) -> str:
        """What is on the screen now."""
        return self.tmux("capture-pane", "-p", *flags)

    def wait(self, seen: Callable[[str], object]) -> str:
        """Until the screen is as expected."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [self.screen()]
            return bool(seen(found[0]))

        wait_until(look, lambda: f"still not seen:\n{found[0]}", every=0.02)
        return found[0]
