"""Plays scenarios on test kernels: `python -m tests.races.run KERNEL... [-- SCENARIO...]`.

One guest for each kernel, in which scenarios follow one another. What is wrong goes with the
processes of its scenario. After one that got stuck there is a new guest.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.races import race
from tests.races.code import NoPlaceError
from tests.races.gdb import GdbError
from tests.races.guest import ROOT, Guest, StuckError
from tests.races.race import Scenario
from tests.races.scenarios import (
    adoption,
    conversion,
    fork,
    migration,
    reading,
    replacement,
    swap,
    tracing,
    waking,
)

MODULES = (conversion, replacement, fork, reading, swap, migration, waking, adoption, tracing)
# What was once counted wrong.
QUICK = (
    "zap_sees_no_ksm_page_and_conversion_sees_the_mapping",
    "sibling_is_read_before_a_shared_page_turns",
    "walk_of_a_family_loses_a_member_to_a_rotation",
    "parent_loses_its_only_page_after_it_was_copied",
    "pages_move_to_where_the_read_has_been",
    "wake_up_between_the_store_and_the_return",
)


def scenarios() -> dict[str, Scenario]:
    """All, by name."""
    return {
        name: function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def play_on(kernel: str, chosen: Sequence[str], daemon: Path, *, verbose: bool) -> list[str]:
    """Play on one kernel; what failed, as lines."""
    began = time.monotonic()

    def tell(step: str) -> None:
        if verbose:
            print(f"{kernel:>5} | {time.monotonic() - began:6.1f} {step}", flush=True)

    failed = []
    guest: Guest | None = None
    try:
        for name in chosen:
            began = time.monotonic()
            try:
                if guest is None:
                    guest = Guest(kernel, daemon, tell)
                    race.prepare(guest)
                wrong = race.play(guest, scenarios()[name])
            except (StuckError, NoPlaceError, GdbError) as error:
                wrong = [f"{type(error).__name__}: {error}"]
                if guest is not None:
                    # A CPU may be held for ever.
                    guest.end()
                    guest = None
            failed += [f"{name}: {line}" for line in wrong]
            verdict = "FAILED" if wrong else "passed"
            print(f"{kernel:>5} | {verdict} {name} ({time.monotonic() - began:.0f} s)", flush=True)
            for line in wrong:
                print(f"{kernel:>5} |   {line}", flush=True)
    finally:
        if guest is not None:
            guest.end()
    return failed


def main(argv: Sequence[str]) -> int:
    """0 only if all passed on every kernel."""
    ours, names = list(argv), list[str]()
    if "--" in argv:
        at = ours.index("--")
        ours, names = ours[:at], ours[at + 1 :]
    parse = argparse.ArgumentParser(prog="tests/races/run.py", description=__doc__)
    parse.add_argument("kernels", nargs="*", metavar="KERNEL")
    parse.add_argument("--quick", action="store_true", help="only those that `make test` plays")
    parse.add_argument(
        "--daemon",
        type=Path,
        default=ROOT,
        metavar="CHECKOUT",
        help="the daemon of an earlier commit or with a fault: then scenarios must fail",
    )
    parse.add_argument("--verbose", action="store_true", help="say each step")
    parse.add_argument("--list", action="store_true", help="only say which there are")
    options = parse.parse_args(ours)
    chosen = names or (list(QUICK) if options.quick else list(scenarios()))
    if options.list:
        print("\n".join(f"{name}: {scenarios()[name].__doc__}" for name in chosen))
        return 0
    if not options.kernels or (unknown := set(chosen) - scenarios().keys()):
        parse.error(f"no such scenario: {', '.join(unknown)}" if options.kernels else "no kernel")
    failed = []
    for kernel in options.kernels:
        failed += [
            f"{kernel}: {line}"
            for line in play_on(kernel, chosen, options.daemon.resolve(), verbose=options.verbose)
        ]
    for line in failed:
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
