"""`ksmwatch peers` against page numbers that the test reads by itself."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import Any

import pytest

from tests import oracle
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

PAGES = 997
# Pages that were merged and then written to, before a fork: frames in common that are not KSM.
WRITTEN = 101


def peers(daemon: Daemon, *words: str) -> dict[str, Any]:
    """The output of the command."""
    done = subprocess.run(
        ["ksmwatch", "peers", "--json", "--socket", str(daemon.socket), *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def common(found: dict[str, Any]) -> dict[frozenset[str], int]:
    """Pages in common by pair; the owner of a tenant is `0/NAME`."""
    return {
        frozenset(owner["id"].removeprefix("0/") for owner in pair["owners"]): pair["pages"]
        for pair in found["pairs"]
    }


def tenant(load: Workload, name: str, *, seed: int, contents: int) -> Tenant:
    """A process whose pages all merge, into this many."""
    made = load.spawn(name)
    made.offer("heap", PAGES, seed=seed, modulo=contents)
    return made


def ksm_frames(each: Tenant, pages: int) -> set[int]:
    """Read independently: of the first pages, all of which the test knows to be merged."""
    return set(oracle.frames(each.pid, each.address("heap"), pages))


@pytest.fixture
def load(ksm: Ksm) -> Any:
    """Tenants that end before KSM is put back."""
    with Workload() as load:
        yield load


def test_pages_in_common_are_those_that_page_tables_show(load: Workload, ksm: Ksm) -> None:
    a = tenant(load, "a", seed=1, contents=100)
    b = tenant(load, "b", seed=1, contents=50)
    c = tenant(load, "c", seed=2, contents=30)
    ksm.merge_all()
    with Daemon(http=False) as daemon:
        c.write("heap", PAGES - WRITTEN, WRITTEN)
        d = c.fork("d")
        merged = {a: PAGES, b: PAGES, c: PAGES - WRITTEN, d: PAGES - WRITTEN}
        assert oracle.host() == {each.pid: pages for each, pages in merged.items()}
        settled_snapshot(daemon)
        found = peers(daemon)
        frames = {each: ksm_frames(each, pages) for each, pages in merged.items()}
        # The forked frames are in common, and no KSM pages.
        assert len(ksm_frames(c, PAGES) & ksm_frames(d, PAGES)) == 30 + WRITTEN

        assert (found["confidence"], found["reasons"]) == ("exact", [])
        assert common(found) == {frozenset("ab"): 50, frozenset("cd"): 30}
        assert common(found) == {
            frozenset((one.name, other.name)): len(frames[one] & frames[other])
            for one, other in ((a, b), (c, d))
        }
        assert found["pages"] == 130 == len(frozenset().union(*frames.values()))
        assert found["mappings"] == found["counted_mappings"] == sum(merged.values())
        ptes: Counter[int] = Counter()
        for each, pages in merged.items():
            ptes.update(oracle.frames(each.pid, each.address("heap"), pages))
        assert {each["up_to"]: each["pages"] for each in found["pages_by_sharers"]} == Counter(
            1 << (number - 1).bit_length() for number in ptes.values()
        )
        owners = {owner["name"]: owner for owner in found["owners"]}
        assert [owners[name]["pages"] for name in "abcd"] == [100, 50, 30, 30]
        assert [owners[name]["pages_alone"] for name in "abcd"] == [50, 0, 0, 0]
        assert all(pair["crosses_border"] for pair in found["pairs"])

        one = peers(daemon, str(b.pid), "--peers.tenant", "shop=command:0/[ab]")
        assert common(one) == {frozenset("ab"): 50}
        assert one["subject"] == {"kind": "command", "id": "0/b", "pid": b.pid}
        assert not any(pair["crosses_border"] for pair in one["pairs"])

        assert daemon.stop() == 0


@pytest.mark.once
def test_without_a_daemon_it_measures_by_itself(load: Workload, ksm: Ksm) -> None:
    a = tenant(load, "a", seed=1, contents=0)
    b = tenant(load, "b", seed=1, contents=0)
    ksm.merge_all()
    words = ["ksmwatch", "peers", "--json", "--socket", "/run/nobody"]
    b.write("heap", 0, 7)
    found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    assert found["confidence"] == "exact"
    assert common(found) == {frozenset("ab"): PAGES - 7}
    assert len(ksm_frames(a, PAGES) & ksm_frames(b, PAGES)) == PAGES - 7
