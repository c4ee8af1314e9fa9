"""The table of all kernels, from what pytest and `check` have said in guests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kernel import everywhere
from tests.kernel.everywhere import Row

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.kernel.test_lifecycle" name="a"/>
<testcase classname="tests.kernel.test_lifecycle" name="b"><failure/></testcase>
<testcase classname="tests.kernel.test_fuzz" name="c"><system-out/></testcase>
<testcase classname="tests.kernel.test_fuzz" name="d"><skipped/></testcase>
</testsuite></testsuites>"""
PROBES = [
    {"event": "rmap_remove", "mechanism": "kprobe", "symbol": "f"},
    {"event": "moves_away", "mechanism": "kprobe", "symbol": "g"},
]


def test_what_did_not_pass_has_failed() -> None:
    assert everywhere.results(JUNIT) == {"test_lifecycle": (1, 1), "test_fuzz": (1, 1)}


def test_a_row_is_of_what_the_kernel_had() -> None:
    row = everywhere.row_of("7.3-rt", "7.3.4-rt", {"live": True, "probes": PROBES}, JUNIT)
    assert (row.hooks, row.stand_ins) == ("kprobe", ("moves_away",))
    assert row.plan == {"rmap_remove": "kprobe `f`", "moves_away": "kprobe `g`"}
    polled = everywhere.row_of("5.10", "5.10", {"live": False, "probes": []}, JUNIT)
    assert (polled.hooks, polled.stand_ins) == ("poll", ())


def test_the_path_of_the_checkout_may_contain_spaces(tmp_path: Path) -> None:
    out = tmp_path / "left here"
    out.mkdir()
    python = tmp_path / "a checkout" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "{\\"live\\": true}"\nprintf "<%s>" "$@" >"$OUT/words"\n')
    python.chmod(0o755)
    environment = {**os.environ, "OUT": str(out)}
    subprocess.run(everywhere.command(python, str(out)), check=True, env=environment)
    assert (out / "release").read_text() == os.uname().release + "\n"
    assert f"<--junitxml={out}/junit>" in (out / "words").read_text()
    assert "<tests/kernel/test_lifecycle.py>" in (out / "words").read_text()


def test_rows_are_replaced_and_stand_by_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everywhere, "RECORD", tmp_path / "record.json")
    assert everywhere.recorded() == []
    for name in ("7.3-rt", "6.12", "6.1", "7.3", "5.10", "6.12-16k-arm64"):
        everywhere.keep(Row(name, f"{name}-x", "fentry", (), {"test_long_fuzz": (1, 0)}))
    everywhere.keep(Row("6.12", "new", "poll", (), {"test_polling": (2, 0)}))
    everywhere.keep(Row("6.12", "new", "poll", (), {}, append="lockdown=integrity"))
    rows = everywhere.recorded()
    assert [row.name for row in rows if row.append] == ["6.12"]
    assert "| new `lockdown=integrity` | polled" in everywhere.table(rows)[5]
    rows = [row for row in rows if not row.append]
    names = ["5.10", "6.1", "6.12", "6.12-16k-arm64", "7.3", "7.3-rt"]
    assert [row.name for row in rows] == names
    lines = everywhere.table(rows)
    assert lines[0] == "| kernel | counts | long fuzz | polling |"
    assert lines[4] == "| new | polled | not run | 2 passed |"
    assert (
        everywhere.table([Row("a", "a", "fentry", ("moves_away",), {"test_long_fuzz": (1, 2)})])[-1]
        == "| a | live, by fentry, and `moves_away` | **2 of 3 failed** |"
    )
