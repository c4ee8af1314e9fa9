"""Exit statuses, and one sentence for everything that ends a command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import __version__, cli
from ksmwatch.commands import audit, oneshot, record
from ksmwatch.errors import Exit, NoDaemonError
from ksmwatch.snapshot import socket_client
from ksmwatch.snapshot.document import to_document
from tests.made_up import nothing, snapshot

ROOT, USER = 0, 1000


class Shown:
    """What a command left: status, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *argv: str) -> None:
        self.status = cli.main(argv)
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


def serve(monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]) -> list[str]:
    """A daemon that answers with this document; the paths that it was asked at."""
    asked: list[str] = []

    def fetch(path: str) -> dict[str, Any]:
        asked.append(path)
        return document

    monkeypatch.setattr(socket_client, "fetch", fetch)
    return asked


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["run", "--colour"], "Unrecognized arguments: --colour; see ksmwatch --help."),
        (
            ["audit", "x"],
            "Argument PID: invalid int value: 'x'; see ksmwatch audit --help.",
        ),
        (["run", "--backend", "x"], "--backend: 'x' must be one of auto, bpf, poll."),
        (
            ["snapshot", "--socket", "x"],
            "--socket: 'x' must be an absolute path.",
        ),
        (
            ["run", "--config.file", "/nonexistent/x"],
            "/nonexistent/x cannot be read: No such file or directory.",
        ),
        (["snapshot", "--back", "poll"], "Unrecognized arguments: --back poll; see"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str) -> None:
    shown = Shown(capsys, *argv)
    assert shown.status == 2
    assert shown.out == ""
    assert shown.err.startswith(f"ksmwatch: {sentence}")
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[poll]\nintervall = 3\n", "there is no setting 'poll.intervall'."),
        ("[poll]\ninterval = 0\n", "poll.interval: 0 must be between 1 and 3600."),
        ("backend = \n", "is not TOML: Invalid value (at line 1, column 11)."),
    ],
    ids=["key", "value", "syntax"],
)
def test_bad_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "ksmwatch.toml"
    path.write_text(text)
    shown = Shown(capsys, "run", "--config.file", str(path))
    assert (shown.status, shown.out) == (2, "")
    assert shown.err.startswith(f"ksmwatch: {path}")
    assert shown.err.endswith(f"{sentence}\n")


def test_unknown_command_and_none(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(capsys, "dance")
    assert shown.status == 2
    assert "invalid choice: 'dance'" in shown.err
    shown = Shown(capsys)
    assert shown.status == 2
    assert "COMMAND" in shown.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ksmwatch {__version__}\n"


def test_config_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "k.toml"
    path.write_text('backend = "poll"')
    shown = Shown(capsys, "run", "--config.file", str(path), "--config.check")
    assert (shown.status, shown.out) == (0, "The configuration is valid.\n")
    path.write_text('backend = "pole"')
    shown = Shown(capsys, "run", "--config.file", str(path), "--config.check")
    assert shown.status == 2
    assert shown.err == (f"ksmwatch: {path}: backend: 'pole' must be one of auto, bpf, poll.\n")


def test_snapshot_without_a_daemon_for_a_user(
    capsys: pytest.CaptureFixture[str], become: Any, tmp_path: Path
) -> None:
    become(USER)
    path = tmp_path / "none.sock"
    shown = Shown(capsys, "snapshot", "--socket", str(path))
    assert shown.status == 7
    assert shown.err == (f"ksmwatch: No daemon answers at {path}: No such file or directory.\n")


def test_snapshot_without_a_daemon_for_root_is_measured(
    capsys: pytest.CaptureFixture[str],
    become: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become(ROOT)
    seen: list[str] = []

    def measure(settings: Any) -> dict[str, Any]:
        seen.append(settings.backend)
        return to_document(snapshot())

    monkeypatch.setattr(oneshot, "measure", measure)
    argv = ["snapshot", "--json", "--backend", "bpf", "--socket", str(tmp_path / "none.sock")]
    shown = Shown(capsys, *argv)
    assert shown.status == 0
    assert json.loads(shown.out) == to_document(snapshot())
    assert seen == ["bpf"]


def test_root_does_not_measure_behind_the_back_of_a_daemon_that_is_slow(
    capsys: pytest.CaptureFixture[str],
    become: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become(ROOT)
    path = tmp_path / "slow.sock"
    path.touch()

    def fetch(path: str) -> dict[str, Any]:
        raise NoDaemonError(f"No daemon answers at {path}: timed out.")

    monkeypatch.setattr(socket_client, "fetch", fetch)
    assert Shown(capsys, "snapshot", "--socket", str(path)).status == 7


def test_snapshot_of_a_daemon(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, to_document(snapshot()))
    shown = Shown(capsys, "snapshot", "--socket", "/x.sock")
    assert shown.status == 0
    assert shown.out.startswith("KSM mappings  100 pages, 0.4 MiB (exact)\n")
    assert asked == ["/x.sock"]


def test_meminfo_has_the_line_or_is_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, to_document(snapshot()))
    shown = Shown(capsys, "meminfo")
    assert shown.status == 0
    lines = shown.out.splitlines()
    assert "KsmSharing:          400 kB" in lines
    serve(monkeypatch, to_document(nothing()))
    shown = Shown(capsys, "meminfo")
    assert shown.status == 0
    assert "KsmSharing" not in shown.out
    assert len(shown.out.splitlines()) == len(lines) - 1


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["audit"], "ksmwatch audit needs root: it reads other users' page tables."),
        (
            ["record", "/nonexistent/d"],
            "ksmwatch record needs root: it reads other users' files.",
        ),
    ],
)
def test_what_only_root_may(
    capsys: pytest.CaptureFixture[str], become: Any, argv: list[str], sentence: str
) -> None:
    become(USER)
    shown = Shown(capsys, *argv)
    assert shown.status == 3
    assert shown.err == f"ksmwatch: {sentence}\n"


def test_root_may(
    capsys: pytest.CaptureFixture[str], become: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(ROOT)
    given: list[Any] = []

    def run(pids: list[int], settings: Any, *, as_json: bool) -> Exit:
        given.extend((pids, as_json))
        return Exit.OK

    def take(directory: Path) -> int:
        given.append(directory)
        return 3

    monkeypatch.setattr(audit, "run", run)
    monkeypatch.setattr(record, "record", take)
    assert Shown(capsys, "audit", "--json", "1", "2").status == 0
    shown = Shown(capsys, "record", "/d")
    assert (shown.status, shown.out) == (0, "Recorded 3 files in /d.\n")
    assert given == [[1, 2], True, Path("/d")]


def test_interrupt_is_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(path: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(socket_client, "fetch", fetch)
    assert Shown(capsys, "snapshot").status == 130


def test_forecast_as_table_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, to_document(snapshot()))
    shown = Shown(capsys, "forecast", "--socket", "/x.sock")
    assert shown.status == 0
    assert shown.out.startswith("run=2 needs   0.3 to 0.4 MiB (exact): fits\n")
    shown = Shown(capsys, "forecast", "--json", "--socket", "/x.sock")
    assert shown.status == 0
    found = json.loads(shown.out)
    assert found["owners"][0]["unmerge"]["at_most_bytes"] == 108 * 4096
    assert asked == ["/x.sock"] * 2
