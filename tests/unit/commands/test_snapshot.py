"""`ksmwatch snapshot` as text."""

from __future__ import annotations

from ksmwatch.commands import snapshot as snapshot_command
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from tests.made_up import nothing, numbers, poll, process, snapshot


def text(made: Snapshot) -> str:
    return snapshot_command.text(to_document(made))


def test_a_live_host() -> None:
    assert text(snapshot()).splitlines() == [
        "KSM mappings  100 pages, 0.4 MiB (exact)",
        "kernel says   115 pages, lag -15",
        "mode          bpf",
        "",
        "PID  NAME                     MAPPINGS  MIB  KERNEL  LAG  CONFIDENCE",
        " 42  tenant-with-a-long-name       100  0.4     110  -10  exact",
    ]


def test_what_is_unknown_is_a_dash() -> None:
    made = snapshot(processes=(process(kernel_merging_pages=None),), numbers=numbers(ksm={}))
    lines = text(made).splitlines()
    assert lines[1] == "kernel says   - pages, lag -"
    assert " ".join(lines[-1].split()) == "42 tenant-with-a-long-name 100 0.4 - - exact"


def test_reasons_and_losses_are_told() -> None:
    made = poll(losses={"reads_denied": 2, "accounts_full": 0, "connector_lost": 1})
    assert text(made).splitlines()[2:6] == [
        "mode          poll",
        "why           polled",
        "because       No BPF here.",
        "losses        reads_denied 2, connector_lost 1",
    ]


def test_a_host_that_sleeps_has_no_table() -> None:
    assert text(snapshot(asleep=True, processes=())).splitlines()[2:] == [
        "mode          bpf, asleep"
    ]


def test_a_kernel_without_ksm() -> None:
    lines = text(nothing()).splitlines()
    assert lines[0] == "KSM mappings  0 pages, 0.0 MiB (exact)"
    assert lines[2] == "mode          none, asleep"


def test_a_hostile_name_stays_on_its_line() -> None:
    made = snapshot(processes=(process(name="\x1b[2J\n  1  init  9999"),))
    lines = text(made).splitlines()
    assert len(lines) == 6
    assert "?[2J?  1  init  9999" in lines[5]
