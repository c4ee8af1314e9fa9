"""What the daemon and its fronts load, and how much memory of their own that takes.

Most of their memory is the code of modules. So a module that comes in by accident shows here.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from importlib import import_module
for name in sys.argv[1].split(","):
    import_module(name)
with open("/proc/self/smaps_rollup") as file:
    anonymous = next(line.split()[1] for line in file if line.startswith("Anonymous:"))
print(anonymous, *sys.modules)
"""
# Of other packages, and of the large parts of Python. 10 MiB of a front are tornado and asyncio,
# which load ssl themselves.
LARGE = {
    *("asyncio", "bcc", "bcrypt", "concurrent", "ctypes", "email", "http", "httpx"),
    *("multiprocessing", "psutil", "pyroute2"),
    *("prometheus_client", "rich", "sqlite3", "ssl", "textual", "tomllib", "tornado"),
    *("unittest", "wsgiref", "xml", "yaml"),
}
# What only a part of all starts needs, or no daemon at all.
ELSEWHERE = {
    *("ksmwatch.counting.polling_backend", "ksmwatch.kernel.frame_source"),
    *("ksmwatch.probes.compiler", "ksmwatch.probes.learning", "ksmwatch.snapshot.document_types"),
    *("ksmwatch.export.tls", "ksmwatch.export.web_config_file", "ksmwatch.history", "ksmwatch.top"),
}
RENDERING = {"prometheus_client", "ctypes", "email", "http", "ssl", "wsgiref"}
DAEMON = "ksmwatch.cli,ksmwatch.commands.run"
WEB = "ksmwatch.export.front.main,ksmwatch.export.front.web"


def load(modules: str) -> tuple[float, set[str]]:
    """MiB of anonymous memory, and all modules, of a process that loads these modules."""
    command = [sys.executable, "-I", "-c", PROGRAM, modules]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    anonymous, *names = done.stdout.split()
    return int(anonymous) / 1024, set(names)


@pytest.mark.parametrize(
    ("modules", "expected", "most"),
    [
        (DAEMON, {"ctypes"}, 15),
        (WEB, {"asyncio", "concurrent", "multiprocessing", "tornado"} | RENDERING, 19),
        ("ksmwatch.export.front.main,ksmwatch.export.front.textfile", RENDERING, 15),
    ],
    ids=["daemon", "web", "textfile"],
)
def test_a_process_loads_what_it_needs(modules: str, expected: set[str], most: float) -> None:
    mebibytes, names = load(modules)
    assert {name.split(".")[0] for name in names} & LARGE == expected
    assert mebibytes < most


def test_the_daemon_loads_nothing_that_only_others_need() -> None:
    _, names = load(DAEMON)
    assert names & ELSEWHERE == set()


def test_passwords_are_an_expense_of_who_has_them() -> None:
    _, names = load(WEB)
    assert "bcrypt" not in names
