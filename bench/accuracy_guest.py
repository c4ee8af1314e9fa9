"""Inside a test kernel: the benchmark of the 2011 patch, sampled. Prints one JSON line a sample.

Two processes fill memory that may be merged with one value, and then write every page with the
value that it already has, for ever: a page that was merged is copied, and can be merged again.
Memory is scaled down to the guest, so the writers pause: a round takes as long as one over the
original 1000 MiB did, which is what ksmd's speed has to be compared with.

To compare, everything must stand still: for each sample the writers are stopped, and ksmd is,
by run=0, which keeps what is merged. What the kernel's counters say is as old as it was before.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests import oracle
from tests.kernel.compare import mappings
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ROUND_SECONDS = 1.5
_SLICES = 32


class Writer:
    """Rewrites all pages of one process, round after round."""

    def __init__(self, tenant: Tenant, pages: int) -> None:
        self.tenant = tenant
        self._pages = pages
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        """Map, fill, and go on."""
        self.tenant.map("heap", self._pages)
        self.tenant.madvise("heap", 0, self._pages, "mergeable")
        self._fill(0, self._pages)
        self._thread.start()

    def _fill(self, first: int, pages: int) -> None:
        self.tenant.fill("heap", first, pages, seed=1, modulo=1)

    def _write(self) -> None:
        size = self._pages // _SLICES
        while True:
            for first in range(0, self._pages, size):
                if self._ended.wait(_ROUND_SECONDS / _SLICES):
                    return
                self._fill(first, min(size, self._pages - first))

    def stop(self) -> None:
        """Returns when it has stopped."""
        self._ended.set()
        self._thread.join()


def _merging_pages(pid: int) -> int:
    return int(Path(f"/proc/{pid}/ksm_merging_pages").read_text())


def _freeze(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)


def sample(daemon: Daemon, ksm: Ksm, pids: list[int], began: float) -> dict[str, Any]:
    """All numbers of one frozen moment, in pages."""
    at = time.monotonic() - began
    _freeze(pids)
    ksm.stop()
    document = daemon.snapshot()
    truth = oracle.host()
    found = {
        "seconds": round(at, 2),
        "truth": sum(truth.values()),
        "pages_sharing": ksm.read("pages_sharing"),
        "pages_shared": ksm.read("pages_shared"),
        "merging_pages": sum(map(_merging_pages, pids)),
        "ksmwatch": document["host"]["mappings"],
        "wrong": sum(
            abs(mappings(document).get(pid, 0) - truth.get(pid, 0))
            for pid in {*truth, *mappings(document)}
        ),
        "confidence": document["host"]["confidence"],
    }
    ksm.start()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    return found


def main(argv: list[str]) -> int:
    """Sample one setting of ksmd for so long."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy_guest")
    parser.add_argument("--mib", type=int, required=True, help="of each process")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between samples")
    parser.add_argument("--pages-to-scan", type=int, required=True)
    parser.add_argument("--sleep-millisecs", type=int, required=True)
    arguments = parser.parse_args(argv)
    pages = (arguments.mib << 20) // _PAGE
    with Daemon() as daemon, Ksm() as ksm, Workload() as load:
        ksm.write("pages_to_scan", arguments.pages_to_scan)
        ksm.write("sleep_millisecs", arguments.sleep_millisecs)
        parent = load.spawn("parent")
        writers = [Writer(parent, pages), Writer(parent.fork("child"), pages)]
        for writer in writers:
            writer.start()
        ksm.start()
        began = time.monotonic()
        while time.monotonic() - began < arguments.seconds:
            time.sleep(arguments.every)
            found = sample(daemon, ksm, [writer.tenant.pid for writer in writers], began)
            print("sample", json.dumps(found), flush=True)
        for writer in writers:
            writer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
