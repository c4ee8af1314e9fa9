"""What a view of the page at `/` costs: docs/http.md.

    python -m bench.page

CPU time of the front, for an invented host with 50 owners and an hour of history: to make the page,
which is done once for each answer of the daemon, and to hand it out.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from ksmwatch.export.front.hour_lines import PastHour
from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.front.overview import OverviewState, overview
from ksmwatch.export.metric_family import Samples
from ksmwatch.export.samples import Series, samples
from tests.fake_front import Served
from tests.page.hosts import Ordinary

_ROUNDS = 400
_HOUR = 3600
_OWNERS = 50


def crowded() -> Samples:
    """The samples of a host with many owners."""
    found = dict(samples(Ordinary(100)(), Series()))
    for name in list(found):
        if name.startswith("ksmwatch_owner_"):
            (labels, value) = found[name][0] if found[name] else ((), 0.0)
            rest = labels[3:]
            found[name] = [
                (("vm", f"vm-{n}", f"proxmox/{n}", *rest), value) for n in range(_OWNERS)
            ]
    return list(found.items())


def make_milliseconds(host: Samples) -> tuple[float, int]:
    """To make the page once; its bytes."""
    history = PastHour()
    for at in range(0, _HOUR, 10):
        history.add(float(at), KnownSamples(host), None)
    began, size = time.process_time(), 0
    for _ in range(_ROUNDS):
        view = OverviewState(
            "host", "/metrics", KnownSamples(host), history, _HOUR, frozenset(), refresh=True
        )
        size = len(overview(view).body)
    return (time.process_time() - began) / _ROUNDS * 1000, size


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return (
        int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1000
    )


def main() -> None:
    """Measure and print."""
    making, size = make_milliseconds(crowded())
    with Served(make=Ordinary(100)) as served:
        served.get("/metrics")
        before = _pss(served.pid)
        began = _cpu(served.pid)
        for _ in range(_ROUNDS):
            assert served.get("/")[0] == 200
        handing = (_cpu(served.pid) - began) / _ROUNDS * 1000
        after = _pss(served.pid)
    print(f"to make: {making:.1f} ms, {size / 1000:.1f} kB")
    print(f"to hand out, with a connection of its own: {handing:.1f} ms")
    print(f"memory of the front: {before:.1f} MB before, {after:.1f} MB after {_ROUNDS} views")


if __name__ == "__main__":
    main()
