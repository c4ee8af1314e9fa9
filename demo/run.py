"""`make demo`: choose between this host and a test kernel, and watch over the show."""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from demo.children import Signals, StoppedError, end_with_parent
from demo.screen import ENTER, LEAVE, say

CHECKOUT = Path(__file__).resolve().parent.parent
VM = CHECKOUT / "tests/vm/run"
NEWEST = "7.3"
PORT = 10054
_KSM_RUN = Path("/sys/kernel/mm/ksm/run")
# Scrapes are frequent until there is an answer. A guest without a network yet lets them hang.
_FIRST_SCRAPE_SECONDS = 0.5
_SCRAPE_SECONDS = 2.0
_SCRAPE_TIMEOUT_SECONDS = 3.0
_END_SECONDS = 60
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Place:
    """Where the demo is shown: in the guest of a kernel series, or on this host (None)."""

    kernel: str | None
    why: str


def choose_place(wanted: str | None, check: Mapping[str, object], *, may_write: bool) -> Place:
    """The host if it can do all that the demo needs, unless a kernel was requested."""
    if wanted:
        return Place(wanted, f"Linux {wanted} was asked for.")
    if not check.get("live"):
        return Place(NEWEST, brief(str(check.get("obstacle") or "ksmwatch check failed.")))
    if not may_write:
        return Place(NEWEST, f"ksmd cannot be started and stopped: {_KSM_RUN} is not writable.")
    return Place(None, "This host can run the BPF programs.")


def brief(sentence: str) -> str:
    """A sentence without its long parenthesis of details, which `ksmwatch check` tells."""
    before, parenthesis, rest = sentence.partition(" (")
    if len(sentence) <= 120 or not parenthesis:
        return sentence
    return f"{before.rstrip('.')} (see ksmwatch check)." if rest else sentence


def host_check() -> dict[str, object]:
    """What `ksmwatch check --json` says; empty where it fails."""
    command = [sys.executable, "-I", "-m", "ksmwatch", "check", "--json"]
    done = subprocess.run(
        command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    with suppress(ValueError):
        document: dict[str, object] = json.loads(done.stdout)
        return document
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return {"live": False, "obstacle": words[-1] if words else None}


def free_port(wanted: int) -> int:
    """The requested port of 127.0.0.1 if it is free, otherwise another."""
    for port in (wanted, 0):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return int(sock.getsockname()[1])
    raise OSError("no port of 127.0.0.1 is free")


def mappings_in(text: str) -> int | None:
    """The value of ksmwatch_mappings in a scrape; None if it is missing."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "ksmwatch_mappings":
            return int(float(value))
    return None


class Scraper(threading.Thread):
    """Proves that /metrics is reachable from here, as long as the show runs."""

    def __init__(self, url: str) -> None:
        super().__init__(name="scraper", daemon=True)
        self.url = url
        self.answers = 0
        self.most = 0

    def run(self) -> None:
        """Scrape for ever, and retry until metrics are there."""
        while True:
            with suppress(OSError, ValueError):
                self._scrape()
            time.sleep(_SCRAPE_SECONDS if self.answers else _FIRST_SCRAPE_SECONDS)

    def _scrape(self) -> None:
        timeout = _SCRAPE_TIMEOUT_SECONDS
        with urllib.request.urlopen(self.url, timeout=timeout) as answer:  # noqa: S310 - ours
            mappings = mappings_in(answer.read().decode())
        if mappings is not None:
            self.answers += 1
            self.most = max(self.most, mappings)

    def report(self) -> str:
        """One line for the summary."""
        if not self.answers:
            return f"From this host {self.url} could not be read."
        return (
            f"{self.url}: {self.answers} scrapes from this host, "
            f"ksmwatch_mappings up to {self.most}."
        )


class Relay:
    """Passes the output of the show on, and knows whether the show has the screen."""

    def __init__(self, show: subprocess.Popen[bytes], *, booting: str) -> None:
        self._show = show
        self._booting = booting
        self._began = time.monotonic()
        self._tail = b""
        self._has_screen = False
        self._held = b""

    def run(self) -> int:
        """Relay until both streams have ended; the exit status of the show."""
        with selectors.DefaultSelector() as selector:
            for stream in (self._show.stdout, self._show.stderr):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(1):
                    assert not isinstance(key.fileobj, int)
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._show.stdout:
                        self._out(data)
                    else:
                        self._err(data)
                self._progress()
        return self._show.wait()

    def _progress(self) -> None:
        """Show the seconds of the boot, until the guest prints something itself."""
        if self._booting:
            seconds = time.monotonic() - self._began
            print(f"\r\x1b[K{self._booting} ... {seconds:.0f} s", end="", flush=True)

    def _booted(self) -> None:
        if self._booting:
            print(f"\r\x1b[K{self._booting}: {time.monotonic() - self._began:.0f} s", flush=True)
            self._booting = ""

    def _out(self, data: bytes) -> None:
        self._booted()
        # A sequence may be cut in two.
        seen = self._tail + data
        enter, leave = seen.rfind(ENTER.encode()), seen.rfind(LEAVE.encode())
        if enter != leave:
            self._has_screen = enter > leave
        self._tail = seen[-max(len(ENTER), len(LEAVE)) :]
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _err(self, data: bytes) -> None:
        """Output that the alternate screen would lose waits until that is left."""
        self._booted()
        self._held += data
        if not self._has_screen:
            self._flush()

    def _flush(self) -> None:
        sys.stderr.buffer.write(self._held)
        sys.stderr.buffer.flush()
        self._held = b""

    def close(self) -> None:
        """Give the terminal back, however the show has ended."""
        if self._booting:
            say("")
        if self._has_screen:
            print(LEAVE, end="", flush=True)
        self._flush()


@contextmanager
def single_keys() -> Iterator[None]:
    """Let the show have every key at once, if the terminal is ours."""
    try:
        ours = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        ours = False
    if not ours:
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setcbreak(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def running(
    command: Sequence[str], signals: Signals, stream: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended with the block. `stream`: what it gets as stdout and stderr."""
    child = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        # Without a terminal the demo takes no input, and must not consume that of others.
        stdin=None if os.isatty(0) else subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - no thread has been started yet
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            signals.hold()
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=_END_SECONDS)
            child.kill()


def terminal_flags(environment: Mapping[str, str]) -> list[str]:
    """What the show must know about our terminal; nothing without one."""
    if not os.isatty(1) or environment.get("TERM", "dumb") == "dumb":
        return []
    size = os.get_terminal_size(1)
    colour = [] if environment.get("NO_COLOR") else ["--colour"]
    # A terminal that does not know its size says 0.
    return [
        "--terminal",
        f"--columns={size.columns or 80}",
        f"--lines={size.lines or 24}",
        *colour,
    ]


def show_command(place: Place, port: int, flags: Sequence[str]) -> list[str]:
    """How the show is started there."""
    show = ["-m", "demo.show", f"--url={url(port)}", *flags]
    if place.kernel is None:
        return [sys.executable, *show, f"--listen=127.0.0.1:{port}"]
    machine = [str(VM), "--kernel", place.kernel, "--publish", f"{port}:{PORT}", "--"]
    return [*machine, "python", *show, "--guest", f"--listen=:{PORT}"]


def url(port: int) -> str:
    """Where /metrics is."""
    return f"http://127.0.0.1:{port}/metrics"


def prepare(options: argparse.Namespace) -> Place:
    """Decide, and say why."""
    check: dict[str, object] = {}
    if options.kernel is None:
        say("Looking whether this host can run the BPF programs ...")
        check = host_check()
    place = choose_place(options.kernel, check, may_write=os.access(_KSM_RUN, os.W_OK))
    if place.kernel is None:
        say(f"On this host: {place.why}")
    else:
        say(f"Not on this host: {place.why}")
    return place


def fetch(series: str, signals: Signals) -> int:
    """Get the kernel into the cache; the harness shows its own progress."""
    with running([str(VM), "--fetch", "--kernel", series], signals) as child:
        return child.wait()


def watch(command: Sequence[str], signals: Signals, scraper: Scraper, booting: str) -> int:
    """Run the show, its screen and the scrapes; the exit status."""
    with single_keys(), running(command, signals, subprocess.PIPE) as show:
        relay = Relay(show, booting=booting)
        scraper.start()
        try:
            status = relay.run()
        finally:
            relay.close()
    return status if status >= 0 else 128 - status


def choose_port() -> int:
    """Where the metrics will be, and say so."""
    port = free_port(PORT)
    taken = "" if port == PORT else f" ({PORT} is taken)"
    say(f"While it runs: curl {url(port)}{taken}")
    return port


def perform(options: argparse.Namespace, signals: Signals) -> int:
    """The whole demo; the exit status of the show, or 1 if /metrics was not reachable."""
    signals.catch()
    place = prepare(options)
    booting = ""
    if place.kernel is not None:
        booting = f"Booting Linux {place.kernel} in QEMU"
        if status := fetch(place.kernel, signals):
            return status
    port = choose_port()
    terminal = terminal_flags(os.environ)
    seconds = options.seconds if options.seconds is not None else 5.0 if terminal else 1.0
    flags = [*terminal, f"--seconds={seconds}", *(["--loop"] if options.loop else [])]
    if booting and not terminal:
        say(f"{booting} ...")
        booting = ""
    scraper = Scraper(url(port))
    status = watch(show_command(place, port, flags), signals, scraper, booting)
    if status in (0, 1):
        say(scraper.report())
        status = status or int(not scraper.answers)
    if terminal and not options.loop and status == 0:
        say("Again and again, until q: .venv/bin/python demo/run.py --loop")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="each act lasts at least so long (default 5, without a terminal 1)",
    )
    parser.add_argument(
        "--kernel", metavar="K", help=f"a test kernel in QEMU (default this host, or {NEWEST})"
    )
    parser.add_argument("--loop", action="store_true", help="again and again, until q is pressed")
    return parser


def main(argv: Sequence[str]) -> int:
    """The exit status: 0 when ksmwatch was right all the time."""
    options = _parser().parse_args(argv)
    try:
        return perform(options, Signals())
    except StoppedError as stop:
        say("\nThe demo was ended early; everything it started has ended, too.")
        return stop.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
