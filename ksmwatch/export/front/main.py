"""One front: `main`, which the daemon starts with the number of its channel.

Everything is imported before privileges are given up: the files of a checkout may be closed
to the user that the front becomes.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial

from ksmwatch import log
from ksmwatch.export import front_channel
from ksmwatch.export.front.confine import confine
from ksmwatch.export.front_channel import Begin, TextfileTask, WebTask
from ksmwatch.kernel.syscalls import give_memory_back


def main() -> None:
    """Do what the first message says, until the daemon is gone."""
    # When everybody in the service is told to end, the daemon ends first and we with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        begin: front_channel.Begin = front_channel.receive(sock)
        log.configure(begin.log_level, begin.log_format)
        _prepared(begin, begin.task)(sock)


def _prepared(begin: Begin, task: WebTask | TextfileTask) -> Callable[[socket.socket], None]:
    """What is to be done, by a process that has all it needs and no privilege any more."""
    if isinstance(task, WebTask):
        # Would be loaded for the colours of a terminal, by tornado.log: half a megabyte.
        sys.modules["curses"] = None  # type: ignore[assignment]
        from ksmwatch.export.front import web

        serve = partial(web.serve, begin, task)
    else:
        from ksmwatch.export.front import textfile

        serve = partial(textfile.serve, begin, task)
    confine(begin.user)
    # What is there now stays: it need not be looked through.
    gc.collect()
    gc.freeze()
    give_memory_back()
    return serve
