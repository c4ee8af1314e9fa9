"""The show, where the kernel is: tenants act, and ksmwatch is compared with the truth.

Started by run.py; ``--terminal`` says what the other end of our pipes is.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from demo import ksm, view
from demo.children import DemoError, Signals, StoppedError
from demo.daemon import Daemon
from demo.screen import Keyboard, Lines, Screen, Terminal, say
from demo.tenants import DUMP, LAYOUTS, Tenants, expected_merged

# How long ksmd may take to do what an act waits for, and a count to become exact.
_KSMD_SECONDS = 90.0
_REST_SECONDS = 20.0
_WRITTEN = 151
_DUMP_WRITTEN = 97


@dataclass(frozen=True)
class Reading:
    """One look at everything.

    `steady` when the truth was the same before and after it; `alone` when no other process of
    the machine can have KSM pages.
    """

    rows: tuple[view.Row, ...]
    host: view.Host
    steady: bool
    alone: bool

    @property
    def exact(self) -> bool:
        """Whether ksmwatch calls every living tenant exact."""
        return all(row.confidence == "exact" for row in self.rows if row.pid is not None)

    @property
    def pairs(self) -> list[tuple[str, int, int]]:
        """What can be compared: its name, ksmwatch's pages and the true ones."""
        pairs = [
            (row.name, row.ours, row.truth)
            for row in self.rows
            if row.ours is not None and row.truth is not None
        ]
        if pairs and self.alone:
            pairs.append(("host", self.host.ours, sum(truth for _, _, truth in pairs)))
        return pairs


@dataclass
class Score:
    """The result of the comparisons at quiet moments."""

    equal: int = 0
    different: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    # The largest lag of the kernel's sum at a quiet moment, and the act before it.
    worst_lag: int = 0
    worst_act: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing speaks against ksmwatch."""
        return not self.different and not self.unsettled

    def take(self, act: str, reading: Reading) -> str:
        """Compare one reading; the verdict in words."""
        if abs(reading.host.lag) > abs(self.worst_lag):
            self.worst_lag, self.worst_act = reading.host.lag, act
        if not reading.pairs:
            return "truth: not readable here"
        if not (reading.steady and reading.exact):
            self.unsettled.append(act)
            return f"not exact within {_REST_SECONDS:.0f} s"
        wrong = [(name, ours, truth) for name, ours, truth in reading.pairs if ours != truth]
        equal = len(reading.pairs) - len(wrong)
        self.equal += equal
        self.different += [f"{act}: {name} {ours}, truth {truth}" for name, ours, truth in wrong]
        lag = view.signed(reading.host.lag)
        return f"{equal} of {len(reading.pairs)} equal to smaps, kernel's lag {lag}"


class Stage:
    """The tenants, ksmd, ksmwatch, and one way to look at them all."""

    def __init__(
        self, daemon: Daemon, switches: ksm.Switches, tenants: Tenants, *, alone: bool
    ) -> None:
        self.switches = switches
        self.tenants = tenants
        self._daemon = daemon
        self._alone = alone
        # The truth of a killed process is 0, but only if the truth is known.
        self._nothing = 0 if ksm.truth_readable() else None

    def read(self) -> Reading:
        """Truth, ksmwatch and the kernel's numbers, and the truth again."""
        before = self._truths()
        document = self._daemon.snapshot()
        after = self._truths()
        found = {p["pid"]: p for p in document["processes"]}
        rows = [self._row(name, before, after, found) for name in self.tenants.all]
        host = view.Host(
            document["host"]["mappings"],
            document["host"]["confidence"],
            ksm.number("pages_shared"),
            ksm.number("pages_sharing"),
            scanning=self.switches.scanning,
        )
        steady = before == after
        return Reading(tuple(row for row in rows if row), host, steady=steady, alone=self._alone)

    def _truths(self) -> dict[str, int | None]:
        tenants = self.tenants.all.values()
        return {t.name: ksm.truth(t.pid) for t in tenants if self.tenants.alive(t.name)}

    def _row(
        self,
        name: str,
        before: dict[str, int | None],
        after: dict[str, int | None],
        found: dict[int, dict[str, Any]],
    ) -> view.Row | None:
        pid = self.tenants.all[name].pid
        if not pid:
            return None
        ours = found.get(pid)
        # Not listed is a statement, too: no event ever gave it a KSM mapping, or it has ended.
        mappings = 0 if ours is None else ours["mappings"]
        if name not in after:
            return view.Row(name, None, mappings, self._nothing, None, "killed")
        confidence = "exact" if ours is None else ours["confidence"]
        kernel, steady = ksm.merging_pages(pid), before[name] == after[name]
        return view.Row(name, pid, mappings, after[name], kernel, confidence, steady)


@dataclass(frozen=True)
class Act:
    """Something that happens. `done` says of a reading that ksmd is done, where that matters."""

    text: str
    brief: str
    play: Callable[[Stage], object]
    done: Callable[[Reading], bool] = lambda _: True
    after: Callable[[Stage], object] = lambda _: None


def _merged(reading: Reading) -> bool:
    expected = expected_merged(LAYOUTS)
    return all(
        expected.get(row.name) == (row.ours if row.truth is None else row.truth)
        for row in reading.rows
    )


def _caught_up(reading: Reading) -> bool:
    """For the host's sum only if all of it is ours: others may lag for ever."""
    lags = {row.name: row.lag or 0 for row in reading.rows}
    # Linux 6.1 gives a forked process its parent's ksm_merging_pages, and keeps them for ever.
    inherited = lags.pop(DUMP, 0)
    return (
        not any(lags.values()) and inherited <= 0 and (reading.host.lag == 0 or not reading.alone)
    )


def _stop_ksmd(stage: Stage) -> None:
    stage.switches.stop()


ACTS: tuple[Act, ...] = (
    Act(
        "ksmd runs and merges the equal pages of four tenants.",
        "ksmd merges",
        lambda stage: stage.switches.scan(),
        _merged,
        _stop_ksmd,
    ),
    Act(
        f"ksmd is stopped now. web-a writes to {_WRITTEN} merged pages and gets copies of its own.",
        f"web-a writes to {_WRITTEN} pages",
        lambda stage: stage.tenants.all["web-a"].tell("write", "system", _WRITTEN),
    ),
    Act(
        f"db forks {DUMP}: the same pages are mapped by one process more.",
        f"db forks {DUMP}",
        lambda stage: stage.tenants.fork_dump(),
    ),
    Act(
        f"{DUMP} writes to {_DUMP_WRITTEN} of the pages that it has from db.",
        f"{DUMP} writes to {_DUMP_WRITTEN} pages",
        lambda stage: stage.tenants.all[DUMP].tell("write", "tables", _DUMP_WRITTEN),
    ),
    Act(
        "web-b unmaps its cache.",
        "web-b unmaps its cache",
        lambda stage: stage.tenants.all["web-b"].tell("unmap", "cache"),
    ),
    Act(
        "batch is killed with kill -9.",
        "batch is killed",
        lambda stage: stage.tenants.kill("batch"),
    ),
    Act(
        "ksmd runs again and finds out, page by page, what has happened meanwhile.",
        "ksmd catches up",
        lambda stage: stage.switches.scan(),
        _caught_up,
        _stop_ksmd,
    ),
)


class Director:
    """Plays the acts one after the other, and shows and compares."""

    def __init__(
        self, stage: Stage, screen: Screen, keyboard: Keyboard, title: str, seconds: float
    ) -> None:
        self._stage = stage
        self._screen = screen
        self._keyboard = keyboard
        self._title = title
        self._seconds = seconds
        self._history: list[str] = []
        self.score = Score()
        self.last: view.Frame | None = None

    def play(self) -> None:
        """All acts, or as many as the audience wants to see."""
        for number, act in enumerate(ACTS, 1):
            if self._keyboard.quit:
                return
            self._play(f"{number}/{len(ACTS)}  ", act)

    def _play(self, number: str, act: Act) -> None:
        self._screen.act(number + act.text)
        began = time.monotonic()
        act.play(self._stage)
        reading = self._until(number + act.text, act.done, _KSMD_SECONDS)
        late = "" if act.done(reading) else f"ksmd is not done after {_KSMD_SECONDS:.0f} s; "
        act.after(self._stage)
        reading = self._until(number + act.text, lambda r: r.steady and r.exact, _REST_SECONDS)
        if self._keyboard.quit:
            return
        verdict = late + self.score.take(act.brief, reading)
        self._history.append(f"{number}{act.brief}: {verdict}")
        self.last = self._frame(number + act.text, reading)
        self._screen.concluded(self.last, verdict)
        self._linger(number + act.text, began + self._seconds)

    def _until(self, text: str, done: Callable[[Reading], bool], seconds: float) -> Reading:
        """Show what happens until it is done, or for some seconds; returns the last reading."""
        deadline = time.monotonic() + seconds
        while True:
            reading = self._stage.read()
            self._screen.draw(self._frame(text, reading))
            if self._keyboard.quit or done(reading) or time.monotonic() > deadline:
                return reading
            self._keyboard.wait(self._screen.redraw_seconds)

    def _linger(self, text: str, until: float) -> None:
        """Keep the table alive so that it can be read."""
        while not self._keyboard.quit and time.monotonic() < until:
            self._keyboard.wait(self._screen.redraw_seconds)
            self._screen.draw(self._frame(text, self._stage.read()))

    def _frame(self, text: str, reading: Reading) -> view.Frame:
        footer = "q ends the demo"
        return view.Frame(self._title, text, reading.host, reading.rows, self._history, footer)


def _summary(score: Score) -> Iterator[str]:
    compared = score.equal + len(score.different)
    if compared or score.unsettled:
        yield (
            f"{compared} comparisons with smaps at moments of rest: "
            f"{score.equal} equal, {len(score.different)} different."
        )
    else:
        yield "Nothing was compared: the truth is not readable here."
    yield from (f"Different: {text}." for text in score.different)
    yield from (f"Not exact in time: {text}." for text in score.unsettled)
    if score.worst_lag:
        yield (
            f"The kernel's own sum was wrong by up to {abs(score.worst_lag)} pages "
            f"({score.worst_act})."
        )


@contextmanager
def _switches(*, guest: bool) -> Iterator[ksm.Switches]:
    """The switches of ksmd, restored at the end; in a guest this does not matter."""
    switches = ksm.Switches(alone=guest)
    try:
        yield switches
    finally:
        if not guest:
            switches.forget()
            switches.restore()


def _screen(options: argparse.Namespace) -> Screen:
    if not options.terminal:
        return Lines()
    return Terminal((options.columns, options.lines), colour=options.colour)


def _title(options: argparse.Namespace, kernel: str) -> str:
    place = "in QEMU" if options.guest else "on this host"
    return f"ksmwatch demo  Linux {kernel} {place}  {options.url}"


def _round(
    options: argparse.Namespace, signals: Signals, daemon: Daemon, screen: Screen, keys: Keyboard
) -> Score:
    """One performance with tenants of its own."""
    with ExitStack() as cleanup:
        switches = cleanup.enter_context(_switches(guest=options.guest))
        switches.stop()
        tenants = Tenants()
        cleanup.callback(tenants.end)
        # Whatever ends this, the rest of the way out must not be disturbed.
        cleanup.callback(signals.hold)
        tenants.start()
        title = _title(options, daemon.snapshot()["kernel"])
        stage = Stage(daemon, switches, tenants, alone=options.guest)
        director = Director(stage, screen, keys, title, options.seconds)
        cleanup.callback(lambda: screen.close(director.last))
        director.play()
    return director.score


def _perform(options: argparse.Namespace, signals: Signals) -> int:
    screen, keys = _screen(options), Keyboard()
    with ExitStack() as cleanup:
        signals.catch()
        what = "Starting the daemon (it compiles its BPF programs)"
        screen.waiting(what, 0)
        began = time.monotonic()
        daemon = Daemon(options.listen)
        cleanup.callback(daemon.stop)
        daemon.wait_ready(lambda seconds: screen.waiting(what, seconds), keys.wait)
        screen.waited(what, time.monotonic() - began)
        good = True
        while True:
            score = _round(options, signals, daemon, screen, keys)
            good = good and score.good
            for line in _summary(score):
                say(line)
            if keys.quit or not options.loop:
                return 0 if good else 1
            signals.catch()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--listen", required=True, help="HOST:PORT or :PORT of the daemon")
    parser.add_argument("--url", required=True, help="where /metrics is for the audience")
    parser.add_argument("--seconds", type=float, required=True, help="for each act")
    parser.add_argument("--guest", action="store_true", help="the machine ends with us")
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--terminal", action="store_true", help="redraw in place")
    parser.add_argument("--columns", type=int, default=80)
    parser.add_argument("--lines", type=int, default=24)
    parser.add_argument("--colour", action="store_true")
    return parser


def main(argv: Sequence[str]) -> int:
    """Exit status 0 when all comparisons were equal, 1 when not."""
    options = _parser().parse_args(argv)
    try:
        return _perform(options, Signals())
    except StoppedError as stop:
        return stop.status
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # run.py was killed, and there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
