"""Hosts, a Prometheus that scrapes them with the shipped rules, and two stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.children import Ending
from tests.stores.answers import PRECISION, missing
from tests.stores.hosts import Hosts
from tests.stores.programs import (
    Server,
    receiving_prometheus,
    sending,
    sending_prometheus,
    victoria_metrics,
    written,
)
from tests.waiting import wait_until

TENANTS = ("blue", "blue", "green")
SECONDS = 1


class Station(Ending):
    """All of them, each to be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._cleanup = ExitStack()
        start = self._cleanup.enter_context
        self.hosts = start(Hosts())
        self.stores: Mapping[str, Server] = {
            "victoria-metrics": start(victoria_metrics(directory)),
            "prometheus": start(receiving_prometheus(directory)),
        }
        ports = {name: store.port for name, store in self.stores.items()}
        self.directory = directory
        config = sending(self.hosts.targets(TENANTS), SECONDS, ports)
        self.sender = start(sending_prometheus(directory, config))

    def end(self) -> None:
        self._cleanup.close()

    def wait_for_scrapes(self, number: int) -> None:
        """Returns when each host has been scraped so many times more."""
        wanted = {host: self.hosts.scrapes[host] + number for host in range(len(TENANTS))}
        wait_until(
            lambda: all(self.hosts.scrapes[host] >= wanted[host] for host in wanted),
            "the hosts are not scraped",
        )

    def missing(self, store: str, at: float) -> list[float]:
        """Times of samples of the sender that a store does not have."""
        here, there = self.sender.port, self.stores[store].port
        return missing(here, there, written(), at, PRECISION[store])

    def wait_until_written(self) -> float:
        """A moment up to which each store has every sample."""
        at = time.time()
        for store in self.stores:
            self.wait_for_all_but(store, at, lambda missing: not missing)
        return at

    def wait_for_all_but(self, store: str, at: float, fine: Callable[[list[float]], bool]) -> None:
        """Returns when it is fine what a store lacks of all samples up to a moment."""
        wait_until(
            lambda: fine(self.missing(store, at)),
            lambda: f"{store} lacks {self.missing(store, at)}",
            every=1,
        )
