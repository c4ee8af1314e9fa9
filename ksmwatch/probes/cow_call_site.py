"""Learns where the kernel calls the rmap hook when it copies a page on write.

To the hook, a copy and an unmapping are one event; the calling code tells them apart.
`/proc/kallsyms` hides its address from processes without CAP_SYSLOG, and does not say where in a
function a call is. So this process copies a page of its own, by writing to a private mapping,
while a program (`learn_copy` of bpf/rmap.c) records the caller.
"""

from __future__ import annotations

import threading
from typing import Protocol

from ksmwatch.probes.map_records import CallSite
from ksmwatch.probes.own_page import ATTEMPTS, private_page

_NOTHING = CallSite(hooked=0, copy=0, function=0, learner=0, seen=0)


class CallSites(Protocol):
    """The map shared with the program."""

    def put_call_site(self, site: CallSite) -> None:
        """Tell the program whose next call to learn, or store the result."""

    def call_site(self) -> CallSite:
        """What the program has seen."""


def learn(maps: CallSites) -> bool:
    """Tell the programs the call, while `learn_copy` is attached; False if it was not seen."""
    for _ in range(ATTEMPTS):
        with private_page() as page:
            assert page[0] == 0
            maps.put_call_site(_NOTHING._replace(learner=threading.get_native_id()))
            page[0] = 1
            site = maps.call_site()
        if site.seen == 1 and site.copy:
            maps.put_call_site(site._replace(learner=0))
            return True
    maps.put_call_site(_NOTHING)
    return False
