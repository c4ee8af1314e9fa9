"""What the daemon and its fronts load, and how much memory of their own that takes.

Most of their memory is the code of modules. So a module that comes in by accident shows here.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
exec(sys.argv[1])
with open("/proc/self/smaps_rollup") as file:
    anonymous = next(line.split()[1] for line in file if line.startswith("Anonymous:"))
print(anonymous, *sys.modules)
"""
# Of other packages, and of the large parts of Python.
LARGE = {
    *("asyncio", "bcc", "bcrypt", "concurrent", "ctypes", "email", "h11", "html", "http", "httpx"),
    *("argparse", "logging", "multiprocessing", "pathlib", "psutil", "pyroute2"),
    *("prometheus_client", "rich", "sqlite3", "ssl", "textual", "tomllib"),
    *("unittest", "wsgiref", "xml", "yaml"),
}
# What only a part of all starts needs, or no daemon at all.
ELSEWHERE = {
    *("ksmwatch.counting.polling_backend", "ksmwatch.kernel.frame_source"),
    *("ksmwatch.probes.compiler", "ksmwatch.probes.learning", "ksmwatch.snapshot.document_types"),
    *("ksmwatch.export.tls", "ksmwatch.export.web_config_file", "ksmwatch.history", "ksmwatch.top"),
}
# As `__main__` does it, and the first code of a child process.
COMMAND = "from ksmwatch.deferred import *; defer(*IN_COMMANDS); "
CHILD = "from ksmwatch.deferred import *; defer(*IN_CHILDREN); import ksmwatch.export.front.main; "
# It has loaded everything before it finds that it cannot listen.
DAEMON = (
    f"{COMMAND}from ksmwatch.cli import main; "
    "assert main(['run', '--socket=/dev/null/socket', '--web.listen-address=']) == 6"
)
RENDERER = f"{CHILD}from ksmwatch.export.front import libraries; libraries.load_renderer(); "
TEXTFILE = f"{RENDERER}import ksmwatch.export.front.textfile"
WEB = (
    f"{RENDERER}libraries.load_escape(); libraries.load_protocol(); "
    "import ksmwatch.export.front.web as web"
)
TLS = f"{WEB}; web.prepare_tls()"
RENDERING = {"prometheus_client", "ctypes", "http"}
SERVING = {"h11", "html"} | RENDERING


def load(program: str) -> tuple[float, set[str]]:
    """MiB of anonymous memory, and all modules, of a process that runs this."""
    command = [sys.executable, "-I", "-c", PROGRAM, program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    anonymous, *names = done.stdout.split()
    return int(anonymous) / 1024, set(names)


@pytest.mark.parametrize(
    ("program", "expected", "most"),
    [
        (DAEMON, {"ctypes", "pathlib"}, 11.5),
        (WEB, SERVING, 8.5),
        (TLS, SERVING | {"ssl"}, 9.7),
        (TEXTFILE, RENDERING | {"pathlib"}, 7.8),
    ],
    ids=["daemon", "web", "web with TLS", "textfile"],
)
def test_a_process_loads_what_it_needs(program: str, expected: set[str], most: float) -> None:
    # Compiling modules takes memory too. Afterwards there are .pyc files, as in any installation.
    load(program)
    mebibytes, names = load(program)
    assert {name.split(".")[0] for name in names} & LARGE == expected
    assert mebibytes < most


def test_the_daemon_loads_nothing_that_only_others_need() -> None:
    _, names = load(DAEMON)
    assert names & ELSEWHERE == set()


def test_the_daemon_forgets_the_parser_of_its_command_line() -> None:
    """All of it: what is only no longer imported still takes its memory."""
    parsers = "[c for c in object.__subclasses__() if c.__module__ in ('argparse', 'gettext')]"
    _, names = load(f"{DAEMON}; assert not {parsers}")
    assert names & {"gettext", "ksmwatch.command_line"} == set()


def test_passwords_are_an_expense_of_who_has_them() -> None:
    _, names = load(WEB)
    assert "bcrypt" not in names


@pytest.mark.parametrize("program", [WEB, TLS, TEXTFILE], ids=["web", "TLS", "textfile"])
def test_a_front_uses_nothing_that_is_deferred(program: str) -> None:
    _, names = load(program)
    # What these modules import.
    assert names & {"ast", "dis"} == set()


def test_what_is_deferred_is_there_when_it_is_used() -> None:
    program = f"""{COMMAND}
import dataclasses, inspect, logging, sys
from types import ModuleType
assert type(inspect) is not ModuleType
made = dataclasses.make_dataclass("Undocumented", [("value", int)])
assert made.__doc__ == "Undocumented(value: int)", made.__doc__
import inspect
assert type(inspect) is ModuleType
assert logging.Formatter().formatException((ValueError, ValueError("why"), None)).endswith(": why")
"""
    _, names = load(program)
    assert {"ast", "dis"} <= names


def test_a_running_daemon_uses_nothing_that_is_deferred() -> None:
    more = "ksmwatch.counting.polling_backend, ksmwatch.history.recorder, ksmwatch.config"
    _, names = load(f"{DAEMON}; import {more}")
    # What these modules import.
    assert names & {"ast", "dis", "linecache", "tokenize"} == set()
