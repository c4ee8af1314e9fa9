"""Memory with tags on arm64 (MTE). It wants an emulated processor that has them: `--cpu max`."""

from __future__ import annotations

import mmap

import pytest

from tests.kernel.asking import why
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import mechanisms
from tests.ksmctl import Ksm
from tests.workload import Workload

PAGES = 307
# arch/arm64/include/uapi/asm/mman.h
PROT_MTE = 0x20


@pytest.mark.parametrize("probes", mechanisms())
def test_it_never_merges_and_everything_else_is_counted(probes: str, ksm: Ksm) -> None:
    with Daemon(f"--probes={probes}", http=False) as daemon, Workload() as load:
        tagged, plain = load.spawn("tagged"), load.spawn("plain")
        tagged.map("heap", PAGES)
        tagged.tell("mprotect", "heap", 0, PAGES, mmap.PROT_READ | mmap.PROT_WRITE | PROT_MTE)
        tagged.fill("heap", 0, PAGES, seed=1, modulo=1)
        tagged.madvise("heap", 0, PAGES, "mergeable")
        plain.offer("heap", PAGES, seed=1, modulo=1)
        ksm.merge_all(stop=False)
        assert why(tagged.pid) == ["tagged"]
        ksm.stop()
        assert_exact(daemon, {plain.pid: PAGES})
        plain.write("heap", 3, 13)
        document = assert_exact(daemon, {plain.pid: PAGES - 13})
        assert document["host"]["events"]["copied"] == 13
        child = plain.fork("child")
        child.munmap("heap", 0, 101)
        assert_exact(daemon, {plain.pid: PAGES - 13, child.pid: PAGES - 101})
