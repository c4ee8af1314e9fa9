"""Facts of the host, alerts, and their lines."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.snapshot.document import to_document
from ksmwatch.top import header
from ksmwatch.top.alerts import Alert, alerts_of
from ksmwatch.top.host_figures import HostFigures, figures
from ksmwatch.top.sample import Sample, make_sample
from ksmwatch.top.toned_text import Tone, plain
from ksmwatch.top.view import Options, Unit
from tests.made_up import nothing, poll
from tests.made_up_host import document

PAGES = Options(unit=Unit.PAGES)


def host(step: int = 0, /, **changes: Any) -> Sample:
    """A host; `a__b=1` changes `b` in `a`."""
    made = document(7, step)
    for path, new in changes.items():
        *above, last = path.split("__")
        place: Any = made
        for key in above:
            place = place[key]
        place[last] = new
    return make_sample(made)


def facts(sample: Sample, before: Sample | None = None) -> HostFigures:
    return figures(sample, before)


def alerts(sample: Sample) -> list[str]:
    return [a.text for a in alerts_of(sample, facts(sample), PAGES)]


def shown(sample: Sample, before: Sample | None = None) -> str:
    known = facts(sample, before)
    return "\n".join(plain(line) for line in header.lines(sample, known, PAGES, 200))


def test_scan_rate() -> None:
    assert facts(host(1), host(0)).scan_rate == 4500
    assert facts(host(0)).scan_rate is None
    assert facts(host(0), host(1)).scan_rate is None
    assert facts(host(1, sources__ksm__pages_scanned=5), host(0)).scan_rate is None


def test_cpu_of_ksmd() -> None:
    assert facts(host(1), host(0)).ksmd_cpu_share == 0.25
    assert facts(host(1, sources__ksmd_cpu_seconds=None), host(0)).ksmd_cpu_share is None
    assert facts(host(0)).ksmd_cpu_share is None


def test_lines() -> None:
    made = host(
        1,
        host__mappings=1000,
        host__kernel_mappings=990,
        host__kernel_lag=10,
        host__saved_bytes=900 * 4096,
        host__saved_at_most_bytes=900 * 4096,
        sources__ksm__pages_sharing=890,
        sources__ksm__general_profit=-4096,
        sources__meminfo__MemAvailable=8000,
    )
    saved = ("saved 900 pages", "kernel claims 890", "MemAvailable 2,000", "kernel's profit -1")
    assert shown(made, host(0)).splitlines() == [
        "mapped 1,000 pages exact    kernel says 990             lag +10",
        "".join(f"{item:28}" for item in saved).rstrip(),
        "ksmd scanning for 30 s  scans 11  pace 100 pages/20 ms  now 4,500/s  CPU 25.0%",
    ]


@pytest.mark.parametrize(
    ("most", "text"), [(900, "saved 900 pages"), (950, "saved 900 to 950 pages")]
)
def test_a_saving_is_one_number_or_between_bounds(most: int, text: str) -> None:
    made = host(1, host__saved_bytes=900 * 4096, host__saved_at_most_bytes=most * 4096)
    assert text in shown(made, host(0))
    # A daemon of before says one number.
    del made.document["host"]["saved_at_most_bytes"]
    assert "saved 900 pages" in shown(made, host(0))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (0, "ksmd stopped, pages stay merged for 30 s"),
        (2, "ksmd stopped and unmerged for 30 s"),
        (9, "ksmd run=9 for 30 s"),
        (None, "ksmd state unknown"),
    ],
)
def test_run_states(run: int | None, expected: str) -> None:
    assert shown(host(host__run=run)).splitlines()[-1].startswith(expected)


def test_a_host_in_order_has_no_alert() -> None:
    assert alerts(host()) == []


@pytest.mark.parametrize(
    ("path", "new", "expected"),
    [
        ("mode_reason", "No BTF.", "not live: No BTF."),
        ("host__residue__left", 7, "left behind by run=2: 7 pages"),
        ("audit__surplus", 5, "drift: exact counts were wrong by +5 -0 pages (corrected)"),
        ("totals__miscounted_pages", 9, "miscounted: 9 pages of processes that ended"),
        ("losses__events_lost", 3, "lost: events_lost 3"),
        ("sources__failures", ["/proc/x\x1b"], "unreadable: /proc/x?"),
    ],
)
def test_alerts(path: str, new: object, expected: str) -> None:
    assert alerts(host(**{path: new})) == [expected]


def test_a_probe_that_is_off_is_bad() -> None:
    made = host()
    made.document["probes"][0]["attached"] = False
    (alert,) = alerts_of(made, facts(made), PAGES)
    assert (alert.tone, alert.text) == (Tone.BAD, "not attached: merge")


@pytest.mark.parametrize(
    ("confidence", "tone", "expected"),
    [
        ("unknown", Tone.BAD, "counts unknown: events were lost"),
        ("estimated", Tone.WARN, "estimated: events were lost"),
    ],
)
def test_confidence(confidence: str, tone: Tone, expected: str) -> None:
    made = host(host__confidence=confidence, host__reason="events were lost")
    (alert,) = alerts_of(made, facts(made), PAGES)
    assert (alert.tone, alert.text) == (tone, expected)


@pytest.mark.parametrize(
    ("verdict", "least", "expected"),
    [
        ("fits", 1 << 20, []),
        ("unknown", None, []),
        ("uncertain", 1 << 20, ["unmerge may not fit: run=2 needs 256 to 1,024 pages of 512"]),
        ("too_little", 1 << 20, ["unmerge would not fit: run=2 needs 256 to 1,024 pages of 512"]),
        ("uncertain", None, ["unmerge may not fit: run=2 needs at most 1,024 pages of 512"]),
    ],
)
def test_unmerge_that_would_not_fit(verdict: str, least: int | None, expected: list[str]) -> None:
    unmerge = {
        "at_least_bytes": least,
        "at_most_bytes": 1 << 22,
        "available_bytes": 1 << 21,
        "verdict": verdict,
    }
    assert alerts(host(host__unmerge=unmerge)) == expected


def test_lines_hold_what_fits() -> None:
    made = host(1, host__confidence="estimated")
    for width in range(20, 200):
        for line in header.lines(made, facts(made, host(0)), PAGES, width):
            assert len(plain(line)) <= width
    wide = header.lines(made, facts(made), Options(), 200)
    assert "MiB estimated" in plain(wide[0])
    assert plain(wide[0]).startswith("mapped ~")


@pytest.mark.parametrize(
    ("problem", "age", "paused", "expected"),
    [
        (None, 0.5, False, []),
        (None, 7.0, True, ["! PAUSED. Shown: 7.0 s old. p resumes."]),
        ("Gone\x1b.", 12.0, False, ["! LOST. Shown: 12 s old. Gone?. Trying again."]),
        ("Gone.", None, True, ["! LOST. Gone. Trying again."]),
    ],
)
def test_status(problem: str | None, age: float | None, paused: bool, expected: list[str]) -> None:  # noqa: FBT001
    status = header.Status(problem, age, paused, late=False)
    assert [plain(line) for line in header.status_lines(status)] == expected


def test_a_late_answer() -> None:
    (line,) = header.status_lines(header.Status(None, 30.0, paused=False, late=True))
    assert plain(line) == "! LATE. Shown: 30 s old. No answer yet."


def test_more_alerts_than_there_is_room_for() -> None:
    found = [Alert(Tone.BAD, str(n)) for n in range(5)]
    shown = [plain(line) for line in header.alert_lines(found, 3)]
    assert shown == ["! 0", "! 1", "! and 3 more: press a"]
    assert len(header.alert_lines(found, 5)) == 5
    assert header.alert_lines([], 3) == []


def test_what_is_unknown_is_no_alert() -> None:
    made = host(sources__meminfo={}, audit=None, totals={}, sources__ksm=None)
    made.document["host"]["saved_bytes"] = None
    made.document["host"]["saved_at_most_bytes"] = None
    assert alerts(made) == []
    assert shown(made).splitlines()[1].split() == (
        "saved - MiB kernel claims - MemAvailable - kernel's profit -".replace(
            "MiB", "pages"
        ).split()
    )


def test_the_worst_comes_first() -> None:
    made = host(losses__events_lost=1, host__residue__left=1, mode_reason="x")
    tones = [a.tone for a in alerts_of(made, facts(made), PAGES)]
    assert tones == [Tone.BAD, Tone.WARN, Tone.WARN]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (document(1), "ksmwatch live, kernel 7.3.9-test, here"),
        (document(1, asleep=True), "ksmwatch live, asleep, kernel 7.3.9-test, here"),
        (to_document(poll()), "ksmwatch polling, kernel 7.3.9-test, here"),
        (to_document(nothing()), "ksmwatch no KSM in this kernel, kernel 7.3.9-test, here"),
    ],
)
def test_title(document: dict[str, Any], expected: str) -> None:
    sample = make_sample(document)
    assert plain(header.title(sample, "here")) == expected
    # And every kind of host has lines.
    assert len(shown(sample).splitlines()) == 3


def test_the_past_fits_a_screen() -> None:
    past = "2026-11-28 20:49:44, 23 h 59 min ago"
    (line,) = header.status_lines(header.Status("Gone.", 1.0, paused=False, late=True, past=past))
    assert plain(line).startswith(f"! PAST. {past}. ")
    assert len(plain(line)) <= 80
