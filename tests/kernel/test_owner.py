"""Two processes that share an address space are one entry, named after one that still uses it."""

from __future__ import annotations

import pytest

from tests import oracle
from tests.kernel.compare import mappings, settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Workload, mergeable


@pytest.mark.parametrize(("probes", "merged"), [("fentry", "before"), ("kprobe", "after")])
def test_an_mm_passes_to_who_shares_it(probes: str, merged: str, ksm: Ksm) -> None:
    with Workload() as load:
        a = mergeable(load, "a", 1009)
        b = a.clone_vm("b")
        c = b.clone_vm("c")
        if merged == "before":
            ksm.merge_all()
        with Daemon(f"--probes={probes}", http=False) as daemon:
            ksm.merge_all()
            assert oracle.host() == {a.pid: 1009, b.pid: 1009, c.pid: 1009}
            assert mappings(settled_snapshot(daemon)) == {a.pid: 1009}
            a = a.exec()
            (heir,) = mappings(settled_snapshot(daemon)).items()
            assert heir in {(b.pid, 1009), (c.pid, 1009)}
            gone, left = (b, c) if heir[0] == b.pid else (c, b)
            gone.kill()
            left.write("heap", 0, 7)
            document = settled_snapshot(daemon)
            assert mappings(document) == {left.pid: 1002} == oracle.host()
            assert document["host"]["confidence"] == "exact"
            names = [p["comm"] for p in document["processes"] if p["mappings"]]
            assert names == [left.name]
            assert daemon.stop() == 0
