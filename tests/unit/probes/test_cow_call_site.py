"""Learning the call site of copies, with programs that are told what they see."""

from __future__ import annotations

import threading

import pytest

from ksmwatch.probes import cow_call_site
from ksmwatch.probes.map_records import CallSite


class Sites:
    """The map, and the program that is attached meanwhile: `seen` calls at each attempt."""

    def __init__(self, *seen: int, copy: int = 0xFFFFFFFF81000123) -> None:
        self._seen, self._copy = list(seen), copy
        self.site: CallSite | None = None
        self.learners: list[int] = []

    def put_call_site(self, site: CallSite) -> None:
        """What the daemon says."""
        self.site = site
        if site.learner:
            self.learners.append(site.learner)

    def call_site(self) -> CallSite:
        """What the program has seen by now."""
        assert self.site is not None
        seen = self._seen.pop(0) if self._seen else 0
        return self.site._replace(
            hooked=0xFFFFFFFF81200005, copy=self._copy, function=0xFFFFFFFF81200000, seen=seen
        )


@pytest.mark.parametrize("seen", [(1,), (0, 1), (2, 0, 7, 0, 1)])
def test_the_first_attempt_with_one_call_is_taken(seen: tuple[int, ...]) -> None:
    sites = Sites(*seen)
    assert cow_call_site.learn(sites) is True
    assert sites.learners == [threading.get_native_id()] * len(seen)
    assert sites.site == CallSite(0xFFFFFFFF81200005, 0xFFFFFFFF81000123, 0xFFFFFFFF81200000, 0, 1)


@pytest.mark.parametrize("sites", [Sites(), Sites(2, 2, 2, 2, 2), Sites(1, 1, 1, 1, 1, copy=0)])
def test_what_is_not_certain_is_not_taken(sites: Sites) -> None:
    assert cow_call_site.learn(sites) is False
    assert sites.site == CallSite(0, 0, 0, 0, 0)
