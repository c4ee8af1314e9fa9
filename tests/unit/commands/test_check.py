"""`ksmwatch check`: a verdict with its status, and everything that led to it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.cli import main
from ksmwatch.commands import check
from ksmwatch.config import Config
from ksmwatch.counting.backend_state import MapState
from ksmwatch.errors import Exit, NoDaemonError, NoLiveError
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import Plan, choose
from tests.fakes import capable
from tests.published import faults

SETTINGS = config.make({}, {"state_programs_path": ""})


class Host:
    """A host about which everything is known."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.facts = capable()
        self.losses: dict[str, int] | None = None
        self.refusal: str | None = None
        # Of attachments by a mechanism: "fentry", "kprobe".
        self.unattachable: set[str] = set()
        self.stopped = 0
        self.programs = "compiled"
        self.learnt = True
        monkeypatch.setattr(check, "read_facts", lambda: self.facts)
        monkeypatch.setattr(check, "fetch", self._fetch)
        monkeypatch.setattr(check, "start_live", self._start_live)

    def without(self, **changes: Any) -> None:
        """Take something away."""
        self.facts = dataclasses.replace(self.facts, **changes)

    def _fetch(self, path: Path) -> dict[str, Any]:
        assert str(path) == SETTINGS.socket
        if self.losses is None:
            raise NoDaemonError("No daemon answers.")
        return {"losses": self.losses}

    def _start_live(
        self, facts: Facts, settings: Config, planned: Callable[[Plan], None]
    ) -> tuple[Host, Plan]:
        planned(choose(facts))
        if self.refusal is not None:
            raise NoLiveError(self.refusal)
        # The first choice was refused: another plan is what attaches.
        found = facts.with_refusal("merge", "fentry", "try_to_merge_one_page", "no")
        while refused := [p for p in choose(found).probes if p.mechanism in self.unattachable]:
            first = refused[0]
            found = found.with_refusal(first.event, first.mechanism, first.symbol, "denied")
        plan = choose(found)
        planned(plan)
        if plan.obstacle is not None:
            raise NoLiveError(plan.obstacle.sentence)
        return self, plan

    def map_state(self) -> MapState:
        """Of what was loaded."""
        return MapState(
            *(1, 16, 4096),
            kept=False,
            adopted=False,
            programs=self.programs,
            tells_copies=self.learnt,
        )

    def stop(self) -> None:
        """Detach."""
        self.stopped += 1


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A capable host without a daemon."""
    return Host(monkeypatch)


def text(capsys: pytest.CaptureFixture[str], *, load: bool = False) -> tuple[Exit, str]:
    status = check.run(SETTINGS, as_json=False, load=load)
    return status, capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *, load: bool = False) -> dict[str, Any]:
    status = check.run(SETTINGS, as_json=True, load=load)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["status"] == status
    assert faults(found) == []
    return found


def test_the_verdict_on_a_capable_host(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = text(capsys)
    assert status is Exit.OK
    assert out.endswith("\n\nLive accounting is possible.\n")
    row = "^rmap_remove +fentry +folio_remove_rmap_ptes +not tried$"
    assert re.search(row, out, re.MULTILINE)
    assert "REJECTED" not in out
    assert "daemon" not in out


def test_every_capability_is_listed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.without(capabilities=host.facts.capabilities - {"CAP_NET_ADMIN"})
    lines = [line.split() for line in text(capsys)[1].splitlines()]
    assert ["CAP_BPF", "yes"] in lines
    assert ["CAP_NET_ADMIN", "no"] in lines


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"ksm": False}, Exit.NO_KSM, "This kernel (7.3"),
        ({"capabilities": frozenset(), "uid": 7}, Exit.PRIVILEGE, "Live accounting needs root"),
        ({"bcc": None, "bcc_error": "x"}, Exit.NO_LIVE, "bcc is missing (x)"),
    ],
)
@pytest.mark.parametrize("load", [False, True])
def test_an_obstacle_is_the_last_line_and_the_status(
    host: Host,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    status: Exit,
    sentence: str,
    *,
    load: bool,
) -> None:
    host.without(**changes)
    found, out = text(capsys, load=load)
    assert found is status
    assert out.splitlines()[-1].startswith(sentence)
    assert document(capsys, load=load)["obstacle"].startswith(sentence)


def test_loading_shows_the_plan_that_attaches_and_detaches_it(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, load=True)
    merge = {"event": "merge", "mechanism": "kprobe", "symbol": "try_to_merge_one_page"}
    assert {**merge, "state": "works"} in found["probes"]
    refusal = {"mechanism": "fentry", "why": "the kernel refused it: no", "tried": True}
    assert merge | refusal in found["rejected"]
    assert host.stopped == 1


def test_what_was_rejected_is_shown(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    lines = text(capsys, load=True)[1].splitlines()
    row = "merge         fentry  try_to_merge_one_page  the kernel refused it: no"
    assert lines.index(row) == lines.index("REJECTED FOR  PROBE   FUNCTION               WHY") + 1


@pytest.mark.parametrize("origin", ["compiled", "kept"])
def test_it_is_told_where_the_programs_come_from(
    host: Host, capsys: pytest.CaptureFixture[str], origin: str
) -> None:
    host.programs = origin
    assert document(capsys, load=True)["programs"] == origin
    rows = [line.split() for line in text(capsys, load=True)[1].splitlines()]
    assert ["BPF", "programs", origin] in rows
    # Nothing is loaded for the plan alone.
    assert document(capsys, load=False)["programs"] is None


def test_that_copies_cannot_be_told_from_unmapping_is_a_warning(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "COW breaks are counted as unmapped: on this host the two cannot be told apart."
    assert sentence not in text(capsys, load=True)[1]
    host.learnt = False
    assert sentence in text(capsys, load=True)[1].splitlines()
    assert document(capsys, load=True)["warnings"][-1] == sentence


def test_the_plan_alone_loads_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.refusal = "The kernel refused every probe that was tried."
    found = document(capsys, load=False)
    assert (found["live"], found["status"], found["rejected"]) == (True, 0, [])


def test_what_only_loading_shows_is_an_obstacle(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.refusal = "The kernel refused every probe that was tried."
    found = document(capsys, load=True)
    assert (found["live"], found["status"], found["obstacle"]) == (False, 5, host.refusal)
    assert text(capsys, load=True)[1].endswith(f"\n\n{host.refusal}\n")


def test_where_tracing_is_refused_no_probe_is_shown_as_if_it_would_work(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.unattachable = {"fentry", "kprobe"}
    status, out = text(capsys, load=True)
    assert status is Exit.NO_LIVE
    tables = [part.splitlines() for part in out.split("\n\n")]
    assert not [lines for lines in tables if lines[0].split()[0] == "EVENT"]
    (rejected,) = [lines for lines in tables if lines[0].startswith("REJECTED")]
    refused = [line for line in rejected if line.endswith("the kernel refused it: denied")]
    assert {line.split()[1] for line in refused} == {"fentry", "kprobe"}
    assert out.splitlines()[-1].startswith("No probe is possible where")
    assert document(capsys, load=True)["probes"] == []


def test_what_failed_as_a_whole_is_not_shown_as_if_it_would_work(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.refusal = "The BPF programs could not be compiled: no."
    found = document(capsys, load=True)
    assert {probe["state"] for probe in found["probes"]} == {"tried, not attached"}
    lines = text(capsys, load=True)[1].splitlines()
    assert not [line for line in lines if line.endswith(("works", "not tried"))]


def test_an_error_of_the_system_is_an_obstacle_and_no_crash(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(check, "start_live", exhausted)
    status, out = text(capsys, load=True)
    assert status is Exit.NO_LIVE
    assert out.splitlines()[-1] == "Live accounting could not be started: Too many open files."


@pytest.mark.parametrize(
    ("flags", "as_json", "load"),
    [([], False, True), (["--plan-only"], False, False), (["--json"], True, True)],
)
def test_flags(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], *, as_json: bool, load: bool
) -> None:
    calls: list[dict[str, bool]] = []

    def run(settings: Config, **kwargs: bool) -> Exit:
        calls.append(kwargs)
        return Exit.NO_LIVE

    monkeypatch.setattr(check, "run", run)
    assert main(["check", *flags]) == Exit.NO_LIVE
    assert calls == [{"as_json": as_json, "load": load}]


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        ({"a": 0, "b": 0}, "The running daemon has lost: nothing."),
        ({"a": 2, "b": 0, "c": 1}, "The running daemon has lost: a 2, c 1."),
    ],
)
def test_a_running_daemons_losses_are_told(
    host: Host, capsys: pytest.CaptureFixture[str], losses: dict[str, int], sentence: str
) -> None:
    host.losses = losses
    assert sentence in text(capsys)[1].splitlines()
    assert document(capsys)["daemon_losses"] == losses


def test_without_a_daemon_its_losses_are_unknown(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert document(capsys)["daemon_losses"] is None


def test_the_document_has_the_facts_for_a_bug_report(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys)
    assert found["schema"] == "ksmwatch.check/1"
    assert Facts.from_json(found["facts"]) == host.facts


def test_warnings_stand_before_the_verdict(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.without(foreign_reads=False)
    (warning,) = document(capsys)["warnings"]
    assert text(capsys)[1].endswith(f"{warning}\n\nLive accounting is possible.\n")


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        ({}, ["struct", "layout", "kernel", "BTF"]),
        ({"offsets": {}, "headers": "/x/build"}, ["struct", "layout", "/x/build"]),
        ({"offsets": {}, "btf_error": "gone"}, ["struct", "layout", "none", "(gone)"]),
        ({"bcc": None, "bcc_error": "gone"}, ["bcc", "no", "(gone)"]),
        ({"bpf_programs": {"kprobe": False}}, ["BPF", "program", "types", "none"]),
        ({"bpf_programs": {"a": True, "b": True}}, ["BPF", "program", "types", "a,", "b"]),
        ({"kprobes": False}, ["kprobes", "no"]),
    ],
)
def test_facts_are_shown(
    host: Host, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], row: list[str]
) -> None:
    host.without(**changes)
    assert row in [line.split() for line in text(capsys)[1].splitlines()]
