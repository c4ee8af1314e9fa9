"""Processes of ours: what they see, what they may say, how they end; nothing foreign runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import child_process
from ksmwatch.child_process import Child, environment, first_error
from ksmwatch.command_line import build_parser
from tests import poison
from tools.completion import read

ROOT = Path(__file__).resolve().parents[2]


def ask(child: Child, **wish: Any) -> dict[str, Any]:
    """The surroundings that the child reports after its task."""
    child.channel.sendall(json.dumps(wish).encode())
    seen: dict[str, Any] = json.loads(child.channel.recv(1 << 16))
    return seen


def test_what_a_child_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/evil")
    with Child("tests.chatter") as child:
        seen = ask(child)
    assert (seen["cwd"], seen["isolated"]) == ("/", 1)
    # Python itself sets LC_CTYPE in the locale C.
    assert set(seen["environment"]) - {"LC_CTYPE"} == set(environment(os.environ)) - {"LC_CTYPE"}
    assert "/evil" not in seen["path"]
    # The directory beside the package comes last.
    assert seen["path"][-1] == str(ROOT)


def test_an_environment_is_pruned() -> None:
    ours = {
        "PATH": "/evil",
        "LANG": "C",
        "PYTHONHOME": "/evil",
        "CPATH": "/evil",
        "HOME": "/evil",
        "LD_LIBRARY_PATH": ":/opt/lib:lib",
        "OPENSSL_CONF": "openssl.cnf",
        "BCC_KERNEL_SOURCE": "/evil",
    }
    assert environment(ours) == {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C",
        "LD_LIBRARY_PATH": "/opt/lib",
    }


def test_many_complaints_block_nobody() -> None:
    text = "warning: w\n" + "x.c:1: error: the first\n" + "noise\n" * 5000 + "x.c:9: error: last\n"
    with Child("tests.chatter") as child:
        ask(child, errors=text)
    assert child.complaint == "x.c:1: error: the first"


def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_PATIENCE_SECONDS", 0.1)
    child = Child("tests.chatter")
    ask(child, sleep=1000)
    assert child.end() == "killed, as it did not end"
    assert not Path(f"/proc/{child.pid}").exists()


def test_how_a_child_ended() -> None:
    child = Child("tests.chatter")
    ask(child)
    assert child.end() == "status 0"
    child = Child("tests.chatter")
    os.kill(child.pid, 9)
    assert child.end() == "signal 9"
    child = Child("tests.is_not_there")
    assert child.end() == "status 1"
    assert child.complaint == "ModuleNotFoundError: No module named 'tests.is_not_there'"


def test_a_child_that_cannot_be_started_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/is/not/there")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        Child("tests.chatter")
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("one\n\n  two \n\n", "two"),
        ("in file x\nx.c:3: error: unknown\nx.c:4: error: more\n2 errors generated.\n", None),
        ("x.c:1: fatal error: 'y.h' file not found\n1 error generated.\n", None),
    ],
)
def test_the_first_error_is_what_people_see(text: str, line: str | None) -> None:
    expected = line if line is not None else next(x for x in text.splitlines() if "error: " in x)
    assert first_error(text) == expected


# ---- nothing of the current directory, or of the environment ----

# A question to each child, upon which it has imported all that it ever imports.
CHILDREN = {
    "ksmwatch.probes.compiler": '{"layout": "headers", "flags": [], "programs": []}\\n',
    "ksmwatch.export.front.main": "",
}


@pytest.mark.parametrize("module", CHILDREN)
def test_no_child_runs_what_lies_about(module: str, tmp_path: Path) -> None:
    launcher = poison.install(tmp_path / "venv")
    poisoned = poison.spread(tmp_path)
    program = (
        "import socket\nfrom ksmwatch.child_process import Child\n"
        f"with Child({module!r}) as child:\n"
        f"    child.channel.sendall(b'{CHILDREN[module]}')\n"
        "    child.channel.shutdown(socket.SHUT_WR)\n"
        "    child.channel.recv(1 << 16)\n"
        "print(child.end())\n"
    )
    done = subprocess.run(
        [launcher.with_name("python3"), "-I", "-c", program],
        cwd=poisoned.directory,
        env={**os.environ, **poisoned.environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert poisoned.ran() == []
    assert done.stdout.startswith("status ")


def test_the_command_runs_nothing_that_lies_about(tmp_path: Path) -> None:
    launcher = poison.install(tmp_path / "venv")
    poisoned = poison.spread(tmp_path)
    done = subprocess.run(
        [launcher, "--version"],
        cwd=poisoned.directory,
        env={**os.environ, **poisoned.environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.startswith("ksmwatch ")
    assert poisoned.ran() == []


def test_poison_is_tried_on_every_command() -> None:
    """In guests: tests/kernel/test_poisoned.py."""
    assert {*poison.COMMANDS, "run"} == {command.name for command in read(build_parser())}


def test_the_poison_works(tmp_path: Path) -> None:
    poisoned = poison.spread(tmp_path)
    environment = {**os.environ, **poisoned.environment}
    subprocess.run(["sh", "-c", "uname"], env=environment, check=False, cwd=poisoned.directory)
    del environment["PYTHONHOME"], environment["PYTHONPATH"]
    command = [sys.executable, "-m", "ksmwatch"]
    subprocess.run(command, env=environment, check=False, cwd=poisoned.directory)
    ran = poisoned.ran()
    assert "program sh" in ran
    assert any(name.startswith("poisoned ") for name in ran)


@pytest.mark.parametrize("name", ["a link", "ksmwatch"])
def test_the_command_may_be_a_link(name: str, tmp_path: Path) -> None:
    launcher = poison.install(tmp_path / "venv")
    (tmp_path / name).symlink_to(launcher)
    assert subprocess.run([tmp_path / name, "--version"], check=False).returncode == 0
