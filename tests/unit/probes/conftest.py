"""Maps of which a test is the kernel."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from ksmwatch.kernel import bpf_maps
from ksmwatch.probes import maps
from ksmwatch.probes.looks import LOOKS
from ksmwatch.probes.map_records import TOTALS_ROOM
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.plan import LOOKER
from tests.loaded_maps import LOADED
from tests.map_memory import PARTS, FakeMap, again, find_changed, memory, present, programs


def entries(name: str) -> int:
    """Of an array."""
    return {"totals": PARTS * TOTALS_ROOM, "looks": LOOKS}.get(name, 1)


@pytest.fixture(params=["dumps", "looks"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maps]:
    """The maps as the programs leave them before anything happened."""
    monkeypatch.setattr(FakeMap, "contents", {}, raising=False)
    monkeypatch.setattr(bpf_maps, "Map", FakeMap)
    numbers = {"accounts": ("64", "8192"), "baselines": ("64", "4096")}
    found = {LOADED.maps[name].fd: pair for name, pair in numbers.items()}

    def fdinfo(fd: int, name: str) -> str:
        entries, memory = found.get(fd, (str(PARTS * TOTALS_ROOM), ""))
        return {"max_entries": entries, "memlock": memory}[name]

    monkeypatch.setattr(maps, "fdinfo", fdinfo)
    monkeypatch.setattr(maps, "runner", lambda _: find_changed)
    monkeypatch.setattr(FakeMap, "dumps", 0)
    programs.clear()
    if request.param == "looks":
        programs[LOOKER.name] = 77
    # In the place of arrays in the kernel's memory.
    arrays = {
        name: each._replace(fd=os.memfd_create(name)) if each.key_size == 4 else each
        for name, each in LOADED.maps.items()
    }
    for name, each in arrays.items():
        if each.key_size == 4:
            os.truncate(each.fd, entries(name) * each.value_size)
            memory[name] = mmap.mmap(each.fd, 0)
    present.update(arrays)
    yield again()
    for name, each in arrays.items():
        if each.key_size == 4:
            memory.pop(name).close()
            os.close(each.fd)
