"""`make bench-arm64`: what the hooks cost the kernel on arm64, in instructions.

In guests of bench/hotpath.py, with pages of 4 and of 16 KiB.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.hotpath import extra, kernel_table, measure, ratio, span
from bench.results import Goal, Result, save

NAME = "arm64"
_KERNELS = ("6.12", "6.12-16k")
_CASES = ("nothing", "asleep", "fentry", "empty fentry", "kprobe", "empty kprobe")

_METHOD = """`make bench-arm64`, {date}, counted as in *Hot path*, in emulated machines of Arm's
(neoverse-n1). There the counter of the machine moves every 16 instructions, which is little for
thousands of pages. A page has the size that its kernel's name says, or 4 KiB."""

_KPROBES = """**Kprobes are breakpoints there.** Each takes an exception, so that an empty program
costs {kprobe} instructions per unmapped page, and {fentry} by fentry. An exception also empties the
pipeline of a real processor, which a number of instructions does not show. ksmwatch uses kprobes
only where fentry programs cannot be attached: on arm64 before 6.4. Beside an empty program of the
same kind it costs {ours_fentry} x by fentry and {ours_kprobe} x by kprobe."""


def section(result: Result) -> str:
    """Method, tables, and what kprobes are there."""
    kernels = result["kernels"].values()
    costs = [found["costs"] for found in kernels]

    def added(case: str) -> str:
        return span([extra(c, case, "munmap") for c in costs], ",.0f")

    words = _KPROBES.format(
        kprobe=added("empty kprobe"),
        fentry=added("empty fentry"),
        ours_fentry=span([ratio(c, "fentry") for c in costs], ".2f"),
        ours_kprobe=span([ratio(c, "kprobe") for c in costs], ".2f"),
    )
    parts = ["## Hot path on arm64", _METHOD.format(**result), words]
    for found in kernels:
        parts += [f"### Linux {found['release']}", kernel_table(found["costs"], _CASES)]
    return "\n\n".join(parts)


def goals(_: Result) -> list[Goal]:
    """None was set."""
    return []


def main() -> int:
    """Measure both, and keep the result."""
    one = partial(measure, cases=_CASES, arch="arm64")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, _KERNELS))
    save(NAME, {"kernels": dict(zip(_KERNELS, found, strict=True))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
