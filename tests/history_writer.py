"""A process that writes moments into a history until it is killed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from ksmwatch.history.retention import Retention
from ksmwatch.history.store import FILE_NAME, Store
from tests.past import BEGIN, crowd, past_moment

# So short that moments are merged and forgotten all the time.
KEEP = Retention(fine=200.0, coarse=2000.0, step=50.0, interval=10.0)


class HistoryWriter(NamedTuple):
    """It prints the number of each moment once it is written."""

    pid: int
    told: TextIO


def start_writer(directory: Path, first: int, owners: int) -> HistoryWriter:
    """Start one by fork, which is quick enough to kill many."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return HistoryWriter(pid, os.fdopen(ours, encoding="ascii"))
    with suppress(BaseException):
        _write(directory, first, owners, theirs)
    os._exit(1)


def _write(directory: Path, first: int, owners: int, told: int) -> None:
    """Ten seconds pass between two moments, for the clock in them."""
    store = Store(directory / FILE_NAME, 10**7)
    number = first
    while True:
        seconds = 10.0 * number
        store.add(past_moment(seconds, crowd(seconds, owners)))
        os.write(told, b"%d\n" % number)
        if not number % 3:
            store.tidy(BEGIN + seconds, KEEP)
        number += 1
