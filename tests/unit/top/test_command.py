"""The flags of `ksmwatch top`."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch import cli
from ksmwatch.errors import Exit
from ksmwatch.snapshot import socket_client
from ksmwatch.top import app, command
from ksmwatch.top.view import Options, Unit
from tests.made_up_host import document

TTY = SimpleNamespace(isatty=lambda: True)


@pytest.fixture(autouse=True)
def daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(range(1000))
    monkeypatch.setattr(socket_client, "fetch", lambda path: document(7, next(steps)))


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.main(["top", *argv]) is Exit.OK
    return capsys.readouterr().out


def test_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--once").count("ksmwatch live") == 1


def test_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "-n", "3", "-d", "0.1").count("ksmwatch live") == 3
    assert len(shown(capsys, "--batch", "-n", "2", "-d", "0.1", "--json").splitlines()) == 2


def test_json_or_csv_alone_is_one_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shown(capsys, "--json").splitlines()) == 1
    assert len(shown(capsys, "--csv").splitlines()) == 8


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["-g", "process", "-s", "pid", "-i", "-f", "kvm", "-u", "pages", "-r"]
    (line,) = shown(capsys, "--json", *argv).splitlines()
    made = json.loads(line)
    assert [row["pid"] for row in made["rows"]] == [1001, 1000]
    assert made["rates"] is True
    assert " pages exact" in shown(capsys, "--once", *argv)
    (line,) = shown(capsys, "--json", "-g", "tree", "-s", "pid").splitlines()
    assert [row["depth"] for row in json.loads(line)["rows"]] == [0, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--once", "-d", "x"], "-d: 'x' is not a number."),
        (["--once", "-d", "nan"], "-d: 'nan' must be between 0.1 and 3600."),
        (["-n", "0"], "-n: '0' must be between 1 and 1e+09."),
        (["--once", "-s", "pid"], "--sort: --group owner has no column pid."),
        (["--json", "--csv"], "--json and --csv cannot be combined."),
        ([], "This is not a terminal: use --once, --batch, --json or --csv."),
        (["--once", "--url", "x"], "--url: 'x' must begin with http:// or https://."),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    assert cli.main(["top", *argv]) is Exit.USAGE
    assert capsys.readouterr().err == f"ksmwatch: {sentence}\n"


def test_a_daemon_that_goes_ends_a_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[dict[str, Any]] = [document(1), document(1), {}]
    monkeypatch.setattr(socket_client, "fetch", lambda path: answers.pop(0))
    assert cli.main(["top", "-n", "5", "-d", "0.1"]) is Exit.INTERNAL
    assert "not a ksmwatch snapshot" in capsys.readouterr().err


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ksmwatch.top.command.sys", SimpleNamespace(stdin=TTY, stdout=TTY))


@pytest.mark.parametrize("version", ["2.1.2", None])
def test_without_a_textual_that_is_new_enough(
    version: str | None,
    terminal: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert cli.main(["top"]) is Exit.USAGE
    assert "needs Textual 8 or later, which Debian does not have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("installed", "taken"), [("2.1.2", True), ("8.2.8", False), ("9.0", False)]
)
def test_the_packages_own_libraries_are_taken_where_the_systems_are_too_old(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    installed: str,
    taken: bool,  # noqa: FBT001
) -> None:
    path = ["/usr/lib/python3/dist-packages"]
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setattr(command, "_private_directory", lambda: tmp_path)
    monkeypatch.setattr(
        importlib.metadata, "version", lambda _: "8.2.8" if str(tmp_path) in path else installed
    )
    assert command._find_textual()
    # Before the system's, which may have an old rich.
    assert (path[0] == str(tmp_path)) is taken


def test_only_the_debian_package_has_libraries_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not command._private_directory().exists()
    file = "/usr/lib/python3/dist-packages/ksmwatch/top/command.py"
    monkeypatch.setattr(command, "__file__", file)
    assert command._private_directory() == Path("/usr/lib/ksmwatch/python")


@pytest.mark.parametrize(("code", "status"), [(0, Exit.OK), (1, Exit.INTERNAL)])
def test_the_application_says_how_it_ended(
    terminal: None, monkeypatch: pytest.MonkeyPatch, code: int, status: Exit
) -> None:
    class App:
        return_code = code

        def __init__(self, source: Any, options: Options, seconds: float, past: Any) -> None:
            assert (options.unit, seconds, past.past) == (Unit.GIB, 5.0, False)

        def run(self) -> None:
            """Done at once."""

    monkeypatch.setattr(app, "App", App)
    monkeypatch.setattr("gc.set_threshold", lambda objects: None)
    assert cli.main(["top", "-u", "GiB", "-d", "5"]) is status


def test_nothing_but_the_application_loads_textual() -> None:
    code = (
        "import sys; from ksmwatch.command_line import build_parser; build_parser();"
        "import ksmwatch.commands.run;"
        "import ksmwatch.top.batch, ksmwatch.top.scrape, ksmwatch.top.source;"
        "print([m for m in sys.modules if m.split('.')[0] in ('textual', 'rich')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
