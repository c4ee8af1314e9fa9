"""When the main loop may rest, and what ends its rest.

While KSM is asleep, a tick finds nothing to do until somebody starts ksmd, switches probes off or
on, or a process changes. All these can be waited for. Whatever cannot is looked for less often.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ksmwatch.kernel import probe_switches
from ksmwatch.kernel.syscalls import watch_writes
from ksmwatch.log import logger


def settings(proc: Path, sys: Path) -> list[Path]:
    """The files by which KSM is started, and probes are stopped."""
    return [sys / "kernel/mm/ksm/run", *probe_switches.readable(proc, sys)]


class Rest:
    """Decides after each tick whether a rest may begin, and sees when something ends it.

    On a host with many process events none begins: each tick empties their buffer.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        # To these, while the main loop rests.
        self.descriptors: tuple[int, ...] = ()
        self._listened: tuple[int, ...] = ()
        self._quiet = False
        self._written: int | None = None
        try:
            self._written = watch_writes(files)
        except OSError as error:
            # Most likely there are too many users of inotify (fs.inotify.max_user_instances).
            logger.info("the daemon wakes up each second", extra={"why": str(error)})

    def before_tick(self, events: int | None) -> None:
        """See whether something has happened since the last tick, which will look at it.

        `events`: a descriptor that tells of changes of processes, if there is one.
        """
        if self._written is None:
            return
        self._listened = (self._written,) if events is None else (self._written, events)
        self._quiet = not _readable(self._listened)
        with suppress(BlockingIOError):
            os.read(self._written, 4096)

    def after_tick(self, *, asleep: bool) -> bool:
        """Whether a rest begins. `asleep`: KSM is, and nothing is left to do."""
        rests = asleep and self._quiet
        self.descriptors = self._listened if rests else ()
        return rests

    def is_over(self) -> bool:
        """Whether something happened in this rest, so that a tick is due at once."""
        return _readable(self.descriptors)

    def close(self) -> None:
        """Listen no longer."""
        if self._written is not None:
            os.close(self._written)


def _readable(descriptors: Iterable[int]) -> bool:
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return bool(poll.poll(0))
