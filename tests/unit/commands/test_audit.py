"""An audit: what it reads, and what it says as text and as a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.commands import audit
from ksmwatch.config import Config
from ksmwatch.errors import Exit, NoDaemonError, SourceError
from ksmwatch.kernel.areas import Area
from ksmwatch.kernel.read_areas import read_areas
from tests.fakes import Proc
from tests.published import faults

AREA = """\
{start:x}-{end:x} rw-p 00000000 00:00 0 {name}
Rss:                 400 kB
Anonymous:           400 kB
KSM:            {ksm:8d} kB
VmFlags: rd wr mr mw me ac{flag}
"""


def smaps(*areas: tuple[int, int, str, bool]) -> str:
    """Areas by first page, KSM mappings, name and whether they are mergeable."""
    return "".join(
        AREA.format(
            start=first << 12,
            end=(first << 12) + 0x100000,
            ksm=pages * 4,
            name=name,
            flag=" mg" if mergeable else "",
        )
        for first, pages, name, mergeable in areas
    )


class Host:
    """An invented /proc with three processes, and perhaps a daemon."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = Proc(path)
        self.counted: dict[int, int] | None = None
        monkeypatch.setattr(audit, "_PROC", path)
        monkeypatch.setattr(audit, "fetch", self._fetch)
        self.add(5, "clean", smaps((0x400, 30, "", True), (0x1000, 0, "[stack]", False)))
        self.add(6, "dirty", smaps((0x400, 10, "", True), (0x1000, 3, "[heap]", False)))
        self.add(7, "idle", smaps((0x400, 0, "", True)))
        self.proc.process(1, comm="self", mapped=0)
        (path / "self").symlink_to("1")

    def add(self, pid: int, comm: str, text: str) -> None:
        """A process with these areas."""
        (self.proc.process(pid, comm=comm) / "smaps").write_text(text)

    def _fetch(self, path: Path) -> dict[str, Any]:
        if self.counted is None:
            raise NoDaemonError("No daemon.")
        return {"processes": [{"pid": p, "mappings": n} for p, n in self.counted.items()]}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "proc", monkeypatch)


SETTINGS: Config = config.make({}, {})


def document(capsys: pytest.CaptureFixture[str], *pids: int) -> dict[str, Any]:
    assert audit.run(list(pids), SETTINGS, as_json=True) is Exit.OK
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert faults(made) == []
    return made


def test_the_document(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.counted = {5: 31}
    made = document(capsys)
    assert {key: made[key] for key in ("schema", "mappings", "stray_mappings")} == {
        "schema": "ksmwatch.audit/1",
        "mappings": 43,
        "stray_mappings": 3,
    }
    # Processes with stray mappings come first; those without any mapping are left out.
    assert [(p["pid"], p["mappings"], p["counted"]) for p in made["processes"]] == [
        (6, 13, None),
        (5, 30, 31),
    ]
    assert made["processes"][0] == {
        "pid": 6,
        "comm": "dirty",
        "mappings": 13,
        "counted": None,
        "stray_mappings": 3,
        "areas": [
            {
                "start": "0x400000",
                "end": "0x500000",
                "mappings": 10,
                "mergeable": True,
                "name": "",
            },
            {
                "start": "0x1000000",
                "end": "0x1100000",
                "mappings": 3,
                "mergeable": False,
                "name": "[heap]",
            },
        ],
    }


def test_the_text(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.counted = {5: 31, 6: 13}
    assert audit.run([], SETTINGS, as_json=False) is Exit.OK
    assert capsys.readouterr().out == (
        "PID  NAME   MAPPINGS  COUNTED  STRAY\n"
        "  6  dirty        13       13      3\n"
        "  5  clean        30       31      0\n"
        "\n"
        "KSM mappings in areas that are not mergeable (see docs/leftovers.md):\n"
        "\n"
        "PID  NAME   ADDRESSES            MAPPINGS  AREA\n"
        "  6  dirty  0x1000000-0x1100000         3  [heap]\n"
    )


def test_asked_for_by_pid_a_process_is_listed_even_without_mappings(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [p["pid"] for p in document(capsys, 7)["processes"]] == [7]
    audit.run([7], SETTINGS, as_json=False)
    assert capsys.readouterr().out == (
        "PID  NAME  MAPPINGS  COUNTED  STRAY\n  7  idle         0        -      0\n"
    )


def test_nobody_has_any(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.proc.end(5)
    host.proc.end(6)
    audit.run([], SETTINGS, as_json=False)
    assert capsys.readouterr().out == "No process has KSM mappings.\n"


@pytest.mark.parametrize("pid", [1, 99])
def test_a_process_without_memory_is_an_error_only_when_asked_for(
    host: Host, capsys: pytest.CaptureFixture[str], pid: int
) -> None:
    # 1 has no smaps, 99 is not there.
    assert 1 not in [p["pid"] for p in document(capsys)["processes"]]
    with pytest.raises(SourceError) as caught:
        audit.run([pid], SETTINGS, as_json=True)
    assert str(caught.value) == f"There is no process {pid} with user memory."


def test_a_process_that_cannot_be_read_is_named(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(directory: Path, reader: Any) -> list[Area]:
        if directory.name == "6":
            raise PermissionError(13, "Permission denied")
        return list(read_areas(directory, reader))

    monkeypatch.setattr(audit, "read_areas", denied)
    made = document(capsys)
    assert made["unread"] == [{"pid": 6, "why": "Permission denied"}]
    assert [p["pid"] for p in made["processes"]] == [5]
    audit.run([], SETTINGS, as_json=False)
    assert capsys.readouterr().out.endswith("\n\nProcess 6 could not be read: Permission denied.\n")


def test_hostile_names_stay_in_their_cell(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.add(6, "\x1b[2Jx", smaps((0x400, 1, "", True), (0x1000, 2, "/a\\012b\x1b]0;", False)))
    audit.run([6], SETTINGS, as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "?[2Jx" in shown
    assert "/a\\012b?]0;" in shown
