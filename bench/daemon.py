"""`make bench-daemon`: the daemon's start, memory, and CPU time at rest; beside an earlier one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.baseline import COMMIT, program
from bench.guests import at_rest, method, milliseconds, run, with_ruler
from bench.results import Goal, Result, save, table

NAME = "daemon"
# Processes, those with KSM pages, and the pages of each of these.
_AT_REST = "1000:1000:20:fork:rest"
_BESIDE = ("start", "commands", "asleep")
_BASELINE = "baseline "
_MEGABYTE = 1e6
# The goals.
_MEMORY_MB = 30
_REST = 0.003
_FEWER = 10
_INTRODUCTION = """`make bench-daemon`, {date}, Linux {kernel} in QEMU, Python {python}. The
figures cover the daemon, the process that serves HTTP, and the compiler until it ends. Figures in
brackets are those of {commit}, an earlier commit, in the same guest. The CPU time of a start is
counted until both processes have loaded everything and wait, which can be later than the first
snapshot. *Memory* is the resident memory of both processes, in which a page that they share counts
once. TLS, passwords and the history are off, and the socket's group is one that the guest has. A
*wake-up* is the end of a sleep of one of the daemon's threads."""


@dataclass(frozen=True)
class _Ratio:
    """A goal: so many times less than something else, by a figure of two cases."""

    goal: str
    least: float
    ours: str
    theirs: str
    why: str


def _seconds(result: Result, case: str) -> float:
    return milliseconds(result, result["cases"][case]["cpu"]) / 1000


def _waited(result: Result, case: str) -> float:
    """From exec to the first exact snapshot: CPU time of an ordinary core, and waiting time."""
    found = result["cases"][case]
    used = milliseconds(result, found["ready"]) / 1000
    return float(used + max(0.0, found["wall"] - found["ready"]))


def _both(result: Result, case: str, show: Callable[[str], str]) -> str:
    """What `show` says of a case, and in brackets of the baseline's, if there is one."""
    before = _BASELINE + case
    return f"{show(case)} ({show(before)})" if before in result["cases"] else show(case)


def _start_table(result: Result) -> str:
    def memory(case: str) -> str:
        return f"{result['cases'][case]['memory'] / _MEGABYTE:.1f} MB"

    kinds = {"compiled": "programs compiled", "kept": "programs kept", "adopted": "adopted"}
    rows = [
        (
            words,
            _both(result, f"start {kind}", lambda case: f"{_seconds(result, case):.2f} s"),
            _both(result, f"start {kind}", lambda case: f"{_waited(result, case):.2f} s"),
            _both(result, f"start {kind}", memory),
        )
        for kind, words in kinds.items()
    ]
    head = ("start, with 500 processes", "CPU time", "until the first exact snapshot", "memory")
    return table(head, rows)


def _commands_table(result: Result) -> str:
    names = {
        "command --help": "`ksmwatch --help`",
        "command snapshot": "`ksmwatch snapshot`, without the daemon's part",
        "programs compiled": "loading the programs, compiled",
        "programs kept": "loading the programs, kept in a file",
    }
    rows = [
        (words, _both(result, case, lambda each: f"{_seconds(result, each) * 1000:.0f} ms"))
        for case, words in names.items()
    ]
    return table(("", "CPU time"), rows)


def _share(result: Result, case: str) -> float:
    """The share of a core without requests."""
    # Of processes that come and go, one can always be audited; the baseline audits all the time.
    audits = case.startswith((_BASELINE, "churn"))
    return at_rest(result, result["cases"][case]["rest"], audits=audits)


def _rest_rows(result: Result) -> Iterator[tuple[str, ...]]:
    cases = {
        "asleep": "no KSM page on the host",
        _AT_REST: "1,000 processes with KSM pages",
        "churn": "churn",
        "churn with KSM pages": "churn, each with 20 KSM pages",
    }
    for case, words in cases.items():
        found = result["cases"][case]
        wakeups = "-"
        if "wakeups" in found:
            wakeups = _both(result, case, lambda each: f"{result['cases'][each]['wakeups']:.0f}")
        yield (
            words,
            f"{found['forks']:,.0f}" if "forks" in found else "0",
            f"{_share(result, case):.3%}",
            _both(result, case, lambda each: f"{_share(result, each) * 60_000:.0f} ms"),
            wakeups,
        )


def section(result: Result) -> str:
    """Method and tables."""
    head = ("without requests", "forks per second", "share of a core", "CPU time per minute")
    return "\n\n".join(
        [
            "## The daemon",
            _INTRODUCTION.format(**result, commit=COMMIT),
            method(result),
            _start_table(result),
            _commands_table(result),
            table((*head, "wake-ups per minute"), _rest_rows(result)),
        ]
    )


def goals(result: Result) -> list[Goal]:
    """The goals for the daemon."""
    memory = result["cases"]["start kept"]["memory"] / _MEGABYTE
    before = result["cases"]["baseline start compiled"]["memory"] / _MEGABYTE
    rest = _share(result, _AT_REST)
    wakes, woke = (result["cases"][f"{prefix}asleep"]["wakeups"] for prefix in ("", _BASELINE))
    return [
        Goal(
            f"both processes: at most {_MEMORY_MB} MB, pages counted once",
            f"{memory:.1f} MB ({COMMIT}: {before:.1f} MB)",
            memory <= _MEMORY_MB,
            _WHY_MEMORY,
        ),
        *(_ratio_goal(result, each) for each in _RATIOS),
        Goal(
            f"no KSM page on the host: {_FEWER} x fewer wake-ups than {COMMIT}",
            f"{woke / wakes:.3g} x ({wakes:.0f} a minute instead of {woke:.0f})",
            woke >= _FEWER * wakes,
            _SEE,
        ),
        Goal(
            "10,000 KSM processes: idle CPU under 0.3 % of a core",
            f"{rest:.3%} with 1,000, and a tick takes as long with 10,000",
            rest < _REST,
            _SEE,
        ),
    ]


def _ratio_goal(result: Result, wanted: _Ratio) -> Goal:
    ours, theirs = (_seconds(result, case) for case in (wanted.ours, wanted.theirs))
    return Goal(
        f"{wanted.goal}: {wanted.least:g} x less CPU time",
        f"{theirs / ours:.3g} x ({ours * 1000:.0f} ms instead of {theirs * 1000:.0f})",
        theirs >= wanted.least * ours,
        wanted.why,
    )


_SEE = "see the tables in *The daemon*"
_WHY_COMMANDS = "a third of it is the start of Python itself, which is the same in both"
_RATIOS = (
    _Ratio(
        "loading kept programs, beside compiling them",
        *(15, "programs kept", "programs compiled", _SEE),
    ),
    _Ratio(
        f"start to the first exact snapshot with kept programs, 500 processes, beside {COMMIT}",
        *(2, "start kept", f"{_BASELINE}start compiled", _SEE),
    ),
    _Ratio(
        f"the same by adopting, beside {COMMIT}",
        *(1.6, "start adopted", f"{_BASELINE}start adopted", _SEE),
    ),
    *(
        _Ratio(
            f"`ksmwatch {command}`, beside {COMMIT}",
            *(3, f"command {command}", f"{_BASELINE}command {command}", _WHY_COMMANDS),
        )
        for command in ("snapshot", "--help")
    ),
)
_WHY_MEMORY = (
    "there are two Python interpreters, because a separate process serves HTTP "
    "([why](decisions/two-processes.md), [what was done](decisions/memory.md))"
)


def main() -> int:
    """Measure, and keep the result."""
    cases = [prefix + case for case in _BESIDE for prefix in ("", _BASELINE)]
    samples = run(
        "bench.daemon_guest",
        *(str(program()), *cases, "programs", _AT_REST, "churn"),
        icount=True,
        memory="3G",
    )
    save(NAME, with_ruler(samples, "case"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
