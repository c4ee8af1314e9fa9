"""What `run=2` takes, foretold and then measured."""

from __future__ import annotations

import pytest

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.memory import PAGE_KB, anon_kb
from tests.ksmctl import Ksm
from tests.workload import Workload

# Contents: as many pages stay, the others are saved.
DISTINCT = 1009
TENANTS = {"a": 20011, "b": 15013, "c": 9007}


@pytest.mark.once
def test_unmerging_takes_what_was_foretold_within_a_hundredth(ksm: Ksm) -> None:
    with Daemon() as daemon, Workload() as load:
        truth = {}
        for name, pages in TENANTS.items():
            tenant = load.spawn(name)
            tenant.offer("heap", pages, seed=3, modulo=DISTINCT)
            truth[tenant.pid] = pages
        ksm.merge_all()
        foretold = assert_exact(daemon, truth)["host"]["unmerge"]
        # What the daemon allocates is not part of the forecast.
        with daemon.frozen():
            before = anon_kb()
            ksm.unmerge()
            risen = (anon_kb() - before) * 1024
        assert_exact(daemon, {})
    assert foretold["verdict"] == "fits"
    assert foretold["at_least_bytes"] == (sum(TENANTS.values()) - DISTINCT) * PAGE_KB * 1024
    assert abs(risen - foretold["at_least_bytes"]) < foretold["at_least_bytes"] / 100
