"""The basis of the other tests: a broken kernel or oracle fails here first."""

from __future__ import annotations

import os
from pathlib import Path

from tests import oracle
from tests.ksmctl import Ksm
from tests.workload import Workload


def test_we_are_root_on_a_test_kernel_with_ksm() -> None:
    assert os.geteuid() == 0
    assert "amd64" in os.uname().release
    assert Path("/sys/kernel/mm/ksm/run").exists()


def test_the_oracle_sees_what_was_merged_and_what_was_not(ksm: Ksm) -> None:
    with Workload() as load:
        merged, private = load.spawn("merged"), load.spawn("private")
        for each in (merged, private):
            each.map("heap", 499)
            each.fill("heap", 0, 499, seed=3, modulo=1)
        merged.madvise("heap", 0, 307, "mergeable")
        assert oracle.host() == {}
        ksm.merge_all()
        assert oracle.host() == {merged.pid: 307}
        merged.write("heap", 5, 11)
        assert oracle.host() == {merged.pid: 296}
