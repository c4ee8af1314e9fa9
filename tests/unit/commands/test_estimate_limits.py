"""`ksmwatch estimate` on made-up processes: samples, budgets, and what goes wrong."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import cli
from ksmwatch.commands import estimate
from ksmwatch.diagnose.page_survey import Tools
from ksmwatch.errors import Exit, NoKsmError, PrivilegeError
from ksmwatch.kernel import frame_source
from ksmwatch.kernel.page_content import Pages
from tests.estimate_host import KERNEL, ZERO_FRAME, Host
from tests.published import faults

Asked = Callable[..., dict[str, Any]]


# ---- sampling ----


def test_a_large_host_is_sampled_and_the_interval_holds_the_truth(
    host: Host, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "SMALL", 100)
    contents = [at // 2 for at in range(6000)] + list(range(5000, 7000))
    host.add(10, contents, name="a")
    found = asked(precision=10)
    assert found["confidence"] == "estimated"
    assert found["spent"]["whole"] < 2500
    saved = found["host"]
    assert saved["would_save_low"] <= 3000 <= saved["would_save_high"]
    assert saved["would_save_high"] - saved["would_save_low"] < 2000
    assert asked(precision=10)["host"] == saved
    assert asked(precision=0)["host"]["would_save"] == 3000


def test_a_budget_that_is_too_small_is_said(host: Host, asked: Asked) -> None:
    host.add(10, [at // 2 for at in range(9000)])
    host.add(11, [1])
    found = asked(budget=1e-9)
    assert found["confidence"] == "estimated"
    assert "the budget of 1e-09 s of CPU was too small" in found["reasons"][0]
    assert "2 processes were not fully examined" in found["reasons"][0]
    assert found["left_out"]["unexamined"] + found["spent"]["pages"] == 9001
    assert found["host"]["would_save"] <= 4500 <= found["host"]["would_save_high"]


def test_what_it_took_to_begin_does_not_make_pages_dear(
    host: Host, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "SMALL", 100)
    seconds = itertools.count(0.0, 1e-6)
    real = host.tools
    monkeypatch.setattr(time, "process_time", lambda: next(seconds))

    def slow(proc: Path, sys: Path, ksm: Mapping[str, int]) -> Tools:
        nonlocal seconds
        seconds = itertools.count(20.0, 1e-6)
        return real(proc, sys, ksm)

    monkeypatch.setattr(estimate, "_tools", slow)
    host.add(10, [at // 2 for at in range(9000)])
    found = asked(precision=0, budget=60.0)
    assert (found["confidence"], found["spent"]["part"]) == ("exact", 1)
    assert found["host"]["would_save"] == 4500


def test_why_kcore_was_not_read_is_said(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = Tools(
        host.proc.path, KERNEL, host.memory, ZERO_FRAME, None, None, "kcore: no such file"
    )
    monkeypatch.setattr(estimate, "_tools", lambda proc, sys, ksm: tools)
    host.add(10, [1, 1])
    assert host.ask(as_json=False) == Exit.OK
    text = " ".join(capsys.readouterr().out.split())
    assert "processes by mem (kcore: no such file)" in text


# ---- what goes wrong ----


def test_processes_that_end_or_refuse_are_counted(
    host: Host, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (10, 11, 12, 13):
        host.add(pid, [1])
    (host.proc.path / "11/pagemap").unlink()
    (host.proc.path / "12/pagemap").write_bytes(b"")
    real = os.open

    def refuse(path: Any, *words: Any, **more: Any) -> int:
        if str(path).endswith("/13/pagemap"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", refuse)
    found = asked()
    assert found["host"]["would_save"] == 0
    assert found["reasons"] == [
        "processes that were not read to the end: 2 (they ended meanwhile)",
        "processes that were not read to the end: 1 (reading them is not permitted)",
    ]
    # What ended takes no memory any more.
    assert found["left_out"]["unexamined"] == 1
    assert found["host"]["would_save_high"] == 1


def test_the_pages_of_what_has_ended_have_not_changed(host: Host, asked: Asked) -> None:
    host.sys.write("pages_shared", 1)
    host.ksm = {50}
    host.add(10, [1, 1, 1], name="a", frames=[50, 50, 50])
    host.add(11, [1, 1, 2], name="b")

    def end(read: int) -> None:
        # After all that can have a copy was read whole.
        if read == 5:
            (host.proc.path / "10/pagemap").unlink()

    host.memory.then = end
    found = asked()
    assert (found["host"]["saved_now"], found["host"]["would_save"]) == (0, 1)
    assert found["spent"]["changed"] == 0
    gone, still = sorted(found["owners"], key=lambda each: str(each["name"]))
    assert (gone["pages"], gone["changing"]) == (0, 0)
    assert gone["advice"] == "Unknown: it has ended."
    assert (still["pages"], still["changing"], still["would_save"]) == (3, 0, 1)


def test_a_pid_that_is_somebody_elses_by_now_is_not_read(
    host: Host, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.add(10, [1, 1])

    def replace(read: int) -> None:
        host.proc.process(10, ticks=9999)

    host.memory.then = replace
    found = asked()
    assert found["host"]["would_save"] == 0
    assert "they ended meanwhile" in found["reasons"][0]


@pytest.mark.parametrize("at", ["looking", "reading", "again"])
def test_ctrl_c_shows_bounds(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    host.add(10, [1, 1, 2, 2, 3], name="a")
    before = signal.getsignal(signal.SIGINT)

    def stop(_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    if at == "looking":

        def read(pages: Pages, size: int, first: int = 0) -> list[bytes]:
            stop(0)
            return [b""] * len(pages.entries)

        monkeypatch.setattr(host.memory, "read", read)
    elif at == "reading":
        host.memory.then = stop
    else:
        host.memory.then = lambda read: stop(0) if read > 4 else None
    with pytest.raises(KeyboardInterrupt):
        host.ask()
    found = json.loads(capsys.readouterr().out)
    assert faults(found) == []
    assert found["reasons"] == ["it was interrupted: equal pages were not compared whole"]
    assert found["host"]["would_save_low"] == 0
    # Of pages that were not examined, all may have copies.
    assert found["host"]["would_save_high"] == (5 if at == "looking" else 2)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_kernel_without_ksm(host: Host, tmp_path: Path) -> None:
    (host.sys.ksm / "run").unlink()
    with pytest.raises(NoKsmError):
        host.ask()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "x"], "--precision"),
        (["--precision", "-1"], "--precision"),
        (["--budget", "0"], "--budget"),
        (["--interval", "x"], "--interval"),
        (["--seed", "1.5"], "--seed"),
        (["--all", "1"], "--all cannot be combined"),
    ],
)
def test_wrong_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", *words]) == Exit.USAGE
    assert message in capsys.readouterr().err


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["estimate"]) == Exit.PRIVILEGE
    assert "needs root" in capsys.readouterr().err


def test_hidden_frame_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def hidden(proc: Path) -> Any:
        yield [0, 0]

    monkeypatch.setattr(frame_source, "own_frames", hidden)
    with pytest.raises(PrivilegeError, match="hides page frame numbers"):
        estimate._tools(tmp_path, tmp_path, {})
