"""Samples of invented hosts, as requests of remote write that are prepared once and only filled in.

What a store is fed must not cost more than what the store does with it. So a request is a template:
its labels stay, and numpy writes values and times into it.
"""

from __future__ import annotations

import dataclasses
import http.client
import re
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.export.samples import Series
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.snapshot.model import Snapshot
from tests.exposed import exposed
from tests.made_up import snapshot
from tests.made_up_host import crowd
from tests.stores.programs import DEPLOYED, written

OWNERS = 50
_PATH = "/api/v1/write"
_VARIANTS = 8
_SERIES_A_REQUEST = 5000
_PAGE = 4096
# A double; a time in milliseconds of this century.
_VALUE_BYTES, _TIME_BYTES = 8, 6


def _shipped() -> Any:
    """The encoder of the shipped script."""
    loader = SourceFileLoader("refill", str(DEPLOYED / "refill"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


_REFILL = _shipped()


@dataclasses.dataclass(frozen=True)
class Row:
    """A series of one host: its labels, its first value, and by what steps it moves."""

    labels: dict[str, str]
    value: float
    step: float
    falls: bool


def _host(number: int) -> Snapshot:
    """With as many owners as have series by default."""
    processes = tuple(
        process._replace(owner=Owner(OwnerKind.VM, f"vm-{n}", f"proxmox/{n}"))
        for n, process in enumerate(crowd(OWNERS, number))
    )
    moved = {process.owner.key: process.movements for process in processes}
    return snapshot(processes=processes, moved=moved, rooms={})


def _step(name: str) -> float:
    """The smallest change of a metric; what is a state does not move."""
    if name.endswith("_bytes"):
        return _PAGE
    if "seconds" in name:
        return 0.01
    moves = ("_mappings", "_pages", "_total", "_processes")
    return float(name.endswith(moves))


def rows(number: int, *, everything: bool) -> list[Row]:
    """What the store gets of a host: what the fleet dashboard shows, or everything."""
    wanted = re.compile(".*" if everything else written().split('"')[1])
    found = [Row({"__name__": "up"}, 1, 0, falls=False)]
    for family in text_string_to_metric_families(exposed(_host(number), Series(owners=OWNERS))):
        found += [
            Row(
                {"__name__": sample.name, **sample.labels},
                float(sample.value),
                _step(sample.name),
                falls=family.type != "counter",
            )
            for sample in family.samples
            if wanted.fullmatch(sample.name)
        ]
    return found


class Request:
    """A request of many series with one sample each."""

    def __init__(self, series: Sequence[Row]) -> None:
        content, values, times = bytearray(), [], []
        for row in series:
            # The sample is at the end.
            encoded = _REFILL.field(
                1, _REFILL.time_series({"metric": row.labels, "values": [(1e9, 0)]}, {})
            )
            content += encoded
            times.append(len(content) - _TIME_BYTES)
            values.append(times[-1] - 1 - _VALUE_BYTES)
        head = len(_REFILL.uncompressed(bytes(content))) - len(content)
        self._body = np.frombuffer(bytearray(_REFILL.uncompressed(bytes(content))), np.uint8)
        self._at = np.array(values)[:, None] + np.arange(_VALUE_BYTES) + head
        self._times = np.array(times)[:, None] + np.arange(_TIME_BYTES) + head
        self._values = np.array([row.value for row in series])
        self._steps = np.array([row.step for row in series])
        self._least = np.array([-50 if row.falls else 0 for row in series])

    def body(self, seconds: float, chance: np.random.Generator) -> bytes:
        """One scrape later: values have moved."""
        self._values += self._steps * chance.integers(self._least, 50, endpoint=True)
        self._values = np.round(self._values, 2)
        self._body[self._at] = self._values.view(np.uint8).reshape(-1, _VALUE_BYTES)
        self._body[self._times] = list(_REFILL.varint(round(1000 * seconds)))
        return self._body.tobytes()

    def __len__(self) -> int:
        return len(self._values)


def requests(hosts: int, *, everything: bool) -> Iterator[Request]:
    """The series of `hosts` hosts."""
    variants = [rows(number, everything=everything) for number in range(_VARIANTS)]
    batch: list[Row] = []
    for host in range(hosts):
        where = {
            "job": "ksmwatch",
            "instance": f"kvm-{host:05}",
            "cluster": "east",
            "tenant": f"tenant-{host % 20}",
        }
        batch += [
            dataclasses.replace(row, labels={**row.labels, **where})
            for row in variants[host % _VARIANTS]
        ]
        if len(batch) >= _SERIES_A_REQUEST or host == hosts - 1:
            yield Request(batch)
            batch = []


def send(client: http.client.HTTPConnection, body: bytes) -> None:
    """One request; the store must take it."""
    client.request("POST", _PATH, body, _REFILL.HEADERS)
    answer = client.getresponse()
    text = answer.read()
    assert answer.status in (200, 204), (answer.status, text)
