"""Runs a benchmark's guest program in a test kernel and collects the samples that it prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.crowd import ruler
from ksmwatch.counting.audit_schedule import Policy
from tests import debs
from tests.guests import ROOT, Guest, lines, module, started

Sample = Mapping[str, Any]

KERNEL = "6.12"
# The fastest of this many runs is what an idle core takes, even if the machine is busy.
_RULER_TIMES = 100

_METHOD = """CPU time is counted, not timed: QEMU runs the guest with `-icount shift=0`, where each
instruction takes a nanosecond. The figures are converted to the time of an ordinary core: a piece
of Python that reads and parses a file of /proc, as the daemon does, took {guest:.1f} million
instructions in the guest and {host:.1f} ms on the machine that ran it, so {rate:.1f} instructions
count as a nanosecond."""


def run(
    name: str,
    *arguments: str,
    icount: bool,
    memory: str,
    packages: Iterable[str] = (),
    kernel: str = KERNEL,
) -> list[Sample]:
    """The samples of `python -m NAME ARGUMENT...` in a guest, shown as they come."""
    # The code of this checkout, even if the environment has another one installed.
    environment = {"PYTHONPATH": str(ROOT), **debs.environment(packages)}
    guest = Guest(kernel, memory=memory, icount=icount, environment=environment)
    samples = []
    for line in printed(guest, name, *arguments):
        print(line, flush=True)
        kind, _, rest = line.partition(" ")
        if kind == "sample":
            samples.append(json.loads(rest))
    return samples


def printed(guest: Guest, name: str, *arguments: str) -> Iterator[str]:
    """The lines that a module prints in a guest, in which it must succeed."""
    with started(guest, *module(name, *arguments)) as process:
        yield from lines(process)
        if process.wait():
            raise SystemExit(f"the {guest.kernel} guest of {name} ended with {process.returncode}")


def with_ruler(samples: Sequence[Sample], key: str) -> dict[str, Any]:
    """A result: the samples by name, and the ruler's time in the guest and here."""
    found = {sample[key]: sample for sample in samples}
    return {
        "kernel": KERNEL,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "ruler": {"guest": found.pop("ruler")["seconds"], "host": ruler(_RULER_TIMES)},
        "cases": found,
    }


def milliseconds(result: Mapping[str, Any], seconds: float) -> float:
    """Convert CPU seconds of the guest to milliseconds of an ordinary core."""
    return float(seconds / rate(result) * 1000)


def at_rest(result: Mapping[str, Any], share: float, *, audits: bool = False) -> float:
    """Convert a share of the guest's core to a share of an ordinary core.

    An audit that has always something to read uses its whole allowance on any core, however fast.
    """
    allowance = Policy().share if audits else 0.0
    return allowance + milliseconds(result, max(0.0, share - allowance)) / 1000


def rate(result: Mapping[str, Any]) -> float:
    """Instructions per nanosecond of an ordinary core."""
    return float(result["ruler"]["guest"] / result["ruler"]["host"])


def method(result: Mapping[str, Any]) -> str:
    """How CPU time was measured."""
    return _METHOD.format(
        guest=result["ruler"]["guest"] * 1000,
        host=result["ruler"]["host"] * 1000,
        rate=rate(result),
    )
