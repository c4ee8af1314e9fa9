"""Hosts whose pages are tested: an ordinary one, and one whose tenants are hostile."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from itertools import count

from ksmwatch.counting.backend_state import AuditState
from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.metric_family import Samples
from ksmwatch.export.samples import Series, samples
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.last_hour import HourPoint, HourPoints
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Process
from tests.made_up import numbers, process, snapshot
from tests.made_up_host import crowd

# What would be a script, leave its place, or be longer than any screen, if it were not text.
HOSTILE_NAMES = (
    "<script>document.title='taken'</script>",
    "<img src=x onerror=document.title='taken'>",
    "\"><svg/onload=document.title='taken'>",
    "</table></main></body><h1>taken</h1>",
    "&lt;b&gt;&amp;amp;",
    "{rows}{0}%s",
    "javascript:alert(1)",
    "A" * 400,
    "אבג-שרת-ראשי",
    "مخدم/qemu",
    "<style>body{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=https://example.org/'>",
)
_WELL = AuditState(12, 3, 0, 0, 0, 0, 0)


def _host(processes: tuple[Process, ...], step: int) -> Snapshot:
    total = sum(p.mappings for p in processes)
    ksm = {
        **(numbers().ksm or {}),
        "pages_shared": total // 10,
        "pages_sharing": total - total // 10 - 70,
        "general_profit": total * 3500,
        "stable_node_dups": 0,
    }
    made = snapshot(
        processes=processes,
        moved=defaultdict(lambda: (0,) * len(Movement)),
        rooms={},
        audit=_WELL,
        history=None,
        numbers=numbers(
            ksm=ksm,
            meminfo={"MemAvailable": 900_000_000, "SwapFree": 0},
            vmstat={"cow_ksm": 17 + 900 * step},
            ksmd_cpu=12.5 + 0.3 * step,
        ),
    )
    clean = {k: 0 if k.startswith("miscounted") else n for k, n in made.totals.items()}
    return dataclasses.replace(made, totals=clean)


class Ordinary:
    """A host with many tenants, whose counts move."""

    def __init__(self, processes: int = 40) -> None:
        self._processes = processes
        self._steps = count()

    def __call__(self) -> Snapshot:
        """The host some time later."""
        step = next(self._steps)
        processes = crowd(self._processes, step * 40)
        alone = (p._replace(family=(p.pid, p.pid)) for p in processes)
        return _host(tuple(alone), step)


class Remembered:
    """The same host with a history, which has the hour before the test."""

    def __init__(self) -> None:
        self._host = Ordinary()
        begin = time.monotonic()
        ages = (age for age in range(3590, 0, -10) if not 1500 < age < 1900)
        self._hour = HourPoints([_past(begin - age, age) for age in ages])

    def __call__(self) -> Snapshot:
        """The host some time later."""
        return dataclasses.replace(self._host(), history=HistoryState(hour=self._hour))


def _past(at: float, age: int) -> HourPoint:
    """A point of that age. Nobody counted for a while, and the counts rose and fell."""
    mapped = (40 + 8 * math.sin(age / 400)) * 2.0**30
    return HourPoint(
        at, age != 1500, mapped, 0.8 * mapped, 500.0 * (3600 - age), 0.3 * (3600 - age)
    )


def hostile() -> Snapshot:
    """Tenants that have chosen their names to do harm."""
    owners = [Owner(OwnerKind.COMMAND, name, name, uid=1000) for name in HOSTILE_NAMES]
    processes = tuple(
        process(
            pid=2000 + n,
            owner=owner,
            comm=owner.name[:15],
            mappings=9000 - 700 * n,
            movements=(),
            family=(n, n),
        )
        for n, owner in enumerate(owners)
    )
    made = _host(processes, 0)
    # Texts from the kernel or another program may contain anything, too.
    return dataclasses.replace(made, kernel="6.12<script>1</script>")


def changed_samples(**series: float | None) -> Samples:
    """The invented host, with other values of series without labels; None: it has none."""
    found = dict(samples(snapshot(), Series()))
    for name, value in series.items():
        found[f"ksmwatch_{name}"] = [] if value is None else [((), value)]
    return list(found.items())


def changed(**series: float | None) -> KnownSamples:
    """The same, as the page reads them."""
    return KnownSamples(changed_samples(**series))
