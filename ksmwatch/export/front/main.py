"""One front: `main`, which the daemon starts with the number of its channel.

Everything is imported before privileges are given up: the front's later user may have no access
to the files of a checkout.
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
from ksmwatch.export.front import libraries
from ksmwatch.export.front.confine import confine
from ksmwatch.export.front_channel import Begin, TextfileTask, WebTask
from ksmwatch.kernel.syscalls import give_memory_back, share_one_heap


def main() -> None:
    """Do what the first message says, until the daemon is gone."""
    # If everything in the service is told to end, the daemon ends first, and the front with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        begin: front_channel.Begin = front_channel.receive(sock)
        log.configure(begin.log_level, begin.log_format)
        _prepared(begin, begin.task)(sock)


def _prepared(begin: Begin, task: WebTask | TextfileTask) -> Callable[[socket.socket], None]:
    """Prepare the task, then give up every privilege."""
    libraries.load_renderer()
    if isinstance(task, WebTask):
        libraries.load_escape()
        libraries.load_protocol()
        from ksmwatch.export.front import auth, runbook, web

        if task.configured:
            auth.prepare()
            web.prepare_tls()
        # Like the modules: the later user may not be able to read it.
        serve = partial(web.serve, begin, task, runbook.read(runbook.runbook_directory()))
    else:
        from ksmwatch.export.front import textfile

        serve = partial(textfile.serve, begin, task)
    share_one_heap()
    confine(begin.user)
    # The current objects stay, so the garbage collector need not examine them.
    gc.collect()
    gc.freeze()
    give_memory_back()
    return serve
