"""Where the kernel calls the rmap hook from when it copies a page on write. Learnt, not looked up.

A copy and an unmapping are one event to the hook; what tells them apart is the code that it is
called from. `/proc/kallsyms` shows its address to nobody without CAP_SYSLOG, and not where in a
function a call is. So this process copies a page of its own, by writing to a private mapping,
while a program (`learn_copy` of bpf/rmap.c) looks who calls.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ksmwatch.log import logger
from ksmwatch.probes.attachments import attach
from ksmwatch.probes.map_records import CallSite
from ksmwatch.probes.plan import Program

_NOTHING = CallSite(hooked=0, copy=0, learner=0, seen=0)
# Other calls of this thread may come between: memory that it gives back.
_ATTEMPTS = 5


class CallSites(Protocol):
    """The map that is shared with the program."""

    def put_call_site(self, site: CallSite) -> None:
        """Say whose next call is to be learnt, or what was."""

    def call_site(self) -> CallSite:
        """What the program has seen."""


@contextmanager
def _private_page() -> Iterator[Callable[[], None]]:
    """A page of a file that is mapped and read; yields what has it copied."""
    fd = os.memfd_create("ksmwatch-copy")
    try:
        os.truncate(fd, mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as page:
            assert page[0] == 0
            yield lambda: page.__setitem__(0, 1)
    finally:
        os.close(fd)


def learn(maps: CallSites) -> bool:
    """Tell the programs the call, while `learn_copy` is attached; False if it was not seen."""
    for _ in range(_ATTEMPTS):
        with _private_page() as copy:
            maps.put_call_site(_NOTHING._replace(learner=threading.get_native_id()))
            copy()
            site = maps.call_site()
        if site.seen == 1 and site.copy:
            maps.put_call_site(site._replace(learner=0))
            return True
    maps.put_call_site(_NOTHING)
    return False


def teach(maps: CallSites, learner: int, program: Program, sys: Path = Path("/sys")) -> None:
    """Tell COW breaks from unmapping from now on, if it can be. The counts do not need it.

    `learner`: the loaded program, which is closed.
    """
    learnt = False
    try:
        link = attach(learner, program, sys)
        try:
            learnt = learn(maps)
        finally:
            os.close(link)
    except OSError as error:
        logger.warning(
            "the call site of COW breaks cannot be learnt", extra={"why": error.strerror}
        )
    if not learnt:
        logger.warning(
            "COW breaks are counted as unmapped: on this host the two cannot be told apart"
        )
    os.close(learner)
