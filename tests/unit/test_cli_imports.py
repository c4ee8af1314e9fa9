"""Which modules a command loads: most modules take longer to load than the command takes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.made_up_host import document

# Without the modules that the interpreter itself loads to start.
PROGRAM = """
import builtins, sys
before = set(sys.modules)
real = compile
def look(source, name, *rest, **flags):
    # A module that is compiled is not our fault.
    if not str(name).endswith(".py"):
        print("compiled:", source, file=sys.stderr)
    return real(source, name, *rest, **flags)
builtins.compile = look
sys.argv = ["ksmwatch", *sys.argv[1:]]
from ksmwatch.cli import main
try:
    main()
finally:
    print(*(set(sys.modules) - before), file=sys.stderr)
"""
PARSER = {
    *("ksmwatch", "ksmwatch.cli", "ksmwatch.cli_calls"),
    *("ksmwatch.command_line", "ksmwatch.errors"),
    *("argparse", "collections", "contextlib", "copyreg", "enum", "errno", "functools"),
    *("gettext", "itertools", "keyword", "locale", "operator", "os", "re", "reprlib"),
    *("textwrap", "types", "typing", "warnings"),
}
SETTINGS = {"ksmwatch.config", "ksmwatch.option_values", "ksmwatch.options"}
ASKING = {
    *("ksmwatch.snapshot", "ksmwatch.snapshot.socket_client", "ksmwatch.commands"),
    *("array", "errno", "json", "math", "select", "selectors", "socket"),
}


def loaded(*argv: str) -> set[str]:
    """Our modules, and the other packages, that a command loads in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    # The first time, that takes longer than to load a dozen modules.
    assert "compiled:" not in done.stderr, done.stderr
    names = done.stderr.split()
    ours = {name for name in names if name.startswith("ksmwatch")}
    # Modules with an underscore are parts of the others.
    return ours | {name.split(".")[0] for name in names if not name.startswith("_")}


@pytest.fixture
def daemon(tmp_path: Path) -> str:
    """A socket on which one snapshot is answered."""
    path = tmp_path / "socket"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def answer() -> None:
        with listening, listening.accept()[0] as connection:
            connection.makefile("rb").readline()
            connection.sendall(json.dumps(document(7)).encode())

    threading.Thread(target=answer, daemon=True).start()
    return str(path)


def test_help_loads_only_the_parser() -> None:
    assert loaded("--help") - PARSER == set()


def test_help_of_a_command_also_loads_the_settings() -> None:
    assert loaded("snapshot", "--help") - PARSER - SETTINGS == set()


@pytest.mark.parametrize(
    ("command", "printing"),
    [
        (
            "snapshot",
            {
                *("ksmwatch.commands.snapshot", "ksmwatch.commands.text_tables"),
                *("ksmwatch.terminal_text", "unicodedata"),
            },
        ),
        ("meminfo", {"ksmwatch.commands.meminfo"}),
    ],
)
def test_a_question_to_the_daemon_loads_no_more_than_the_answer_needs(
    command: str, printing: set[str], daemon: str
) -> None:
    assert loaded(command, "--socket", daemon) - PARSER - SETTINGS - ASKING == printing
