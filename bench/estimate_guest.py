"""Inside a test kernel whose clock counts instructions: what an estimate costs, per page.

`python -m bench.estimate_guest` prints one line `sample JSON` for each way to look at the same
pages of one process. With `--no-ksmd` it runs on any host, and times instead of counting.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ksmwatch.commands import estimate
from ksmwatch.commands.estimate import EstimateWish, Estimator
from ksmwatch.digests import blake2b
from ksmwatch.kernel import procfs
from ksmwatch.units import PAGE_SIZE
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

_PROC = Path("/proc")
# Of contents that no other page has, and of contents with five copies each.
UNIQUE, COPIES = 150_011, 50_021
PAGES = UNIQUE + COPIES
_SCANS = 3


def tenant(load: Workload) -> Tenant:
    """The process with these pages."""
    made = load.spawn("tenant")
    made.map("heap", PAGES)
    made.madvise("heap", 0, PAGES, "nohugepage")
    made.fill("heap", 0, UNIQUE, seed=1, modulo=0)
    made.fill("heap", UNIQUE, COPIES, seed=2, modulo=COPIES // 5)
    return made


def digest(page: bytes) -> object:
    """A hash that nobody can find two pages for."""
    return blake2b(page, digest_size=16).digest()


def hash_all(pid: int, address: int, of: Callable[[bytes], object]) -> float:
    """CPU seconds for a plain hash of each page."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    began = time.process_time()
    for at in range(PAGES):
        of(os.pread(fd, PAGE_SIZE, address + at * PAGE_SIZE))
    used = time.process_time() - began
    os.close(fd)
    return used


def ask(pid: int, precision: float) -> tuple[float, float, float]:
    """CPU seconds of an estimate, the pages that it read whole, and what it says."""
    wish = EstimateWish((str(pid),), (), precision, 86400.0, 0.0, 1)
    ksm, _ = procfs.read_ksm(Path("/sys"))
    asked = Estimator(wish, ksm or {}, _PROC, Path("/sys"))
    asked.read_all()
    report = asked.report(ksm or {})
    everything = report.result.saving.everything
    assert everything is not None
    return report.spent.cpu_seconds, report.spent.whole, everything.value


def ksmd_scans(tenant: Tenant) -> float:
    """CPU seconds of ksmd for all pages of one scan."""
    pid = procfs.find_ksmd(_PROC)

    def used() -> float:
        return int((_PROC / str(pid) / "schedstat").read_text().split()[0]) / 1e9

    with Ksm() as ksm:
        tenant.madvise("heap", 0, PAGES, "mergeable")
        scanned, began = ksm.read("pages_scanned"), used()
        ksm.merge_all(scans=_SCANS)
        pages = ksm.read("pages_scanned") - scanned
        return (used() - began) / pages * PAGES


def sample(way: str, seconds: float, **more: float) -> None:
    """Print what a way takes, in nanoseconds for each page, which are instructions in a guest."""
    print("sample", json.dumps({"way": way, "page": seconds * 1e9 / PAGES, **more}), flush=True)


def main() -> None:
    # As on a host with more pages than are read whole without a thought.
    estimate.SMALL = 0
    with Workload() as load:
        made = tenant(load)
        for way, of in (("hash", digest), ("siphash", hash)):
            sample(way, hash_all(made.pid, made.address("heap"), of))
        for way, precision in (("sampled", 100.0), ("exact", 0.0)):
            seconds, whole, value = ask(made.pid, precision)
            sample(way, seconds, whole=whole, value=value)
        if "--no-ksmd" not in sys.argv:
            sample("ksmd", ksmd_scans(made))


if __name__ == "__main__":
    main()
