"""Steps through the history, and what `top` shows at each."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksmwatch import cli
from ksmwatch.errors import Exit, HistoryError, SourceError
from ksmwatch.history.store import FILE_NAME, Store
from ksmwatch.option_values import OutputForm
from ksmwatch.top import batch
from ksmwatch.top.batch import Batch
from ksmwatch.top.host_figures import figures
from ksmwatch.top.sample import make_sample
from ksmwatch.top.timeline import Move, PastSource, Timeline
from ksmwatch.top.view import Options
from tests.made_up import numbers
from tests.past import BEGIN, past_moment
from tests.played_top import Screen, play

# Every ten seconds for an hour and ten minutes, but not from the second minute to the fourth.
LAST = 4200
GAP = range(120, 240)
NOW = BEGIN + LAST + 3.0


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        store = Store(Path(path) / FILE_NAME, 10**7)
        for seconds in range(0, LAST + 1, 10):
            if seconds not in GAP:
                since = 240.0 if seconds == 240 else seconds - 10.0
                counts = {"web": 1000 + seconds, "db": 500}
                store.add(past_moment(float(seconds), counts, since=since))
        store.close()
        yield Path(path)


@pytest.fixture
def timeline(directory: Path) -> Timeline:
    return Timeline(directory, lambda: NOW)


def place(tested: Timeline) -> float | None:
    """In seconds after BEGIN; None: now."""
    return float(tested.read().document["time"]) - BEGIN if tested.past else None


def test_steps(timeline: Timeline) -> None:
    assert place(timeline) is None
    places = []
    for move in (Move(-1), Move(-1), Move(-3), Move(1), Move(), Move(-1), Move(1), Move(1)):
        timeline.move(move)
        places.append(place(timeline))
    assert places == [4200, 4190, 4160, 4170, None, 4200, None, None]
    timeline.go_to(BEGIN)
    timeline.move(Move(-1))
    assert place(timeline) == 0
    timeline.close()


def test_jumps_go_over_a_gap(timeline: Timeline) -> None:
    timeline.go_to(BEGIN + 300)
    places = []
    for seconds in (-100, -60, -600, 60, 60, 60, 600, 9000, 600, -600):
        timeline.move(Move(seconds=seconds))
        places.append(place(timeline))
    # The last moment before 200 is at 110; from there 170 is still in the gap.
    assert places == [110, 50, 0, 60, 110, 240, 840, 4200, None, 3600]
    timeline.close()


def test_a_time_is_its_moment(timeline: Timeline) -> None:
    for at, found in ((1000.0, 1000), (1009.9, 1000), (200.0, 110), (-500.0, 0), (9e9, LAST)):
        timeline.go_to(BEGIN + at)
        assert place(timeline) == found
    timeline.close()


def test_the_moment_before_is_known_unless_there_was_a_gap(timeline: Timeline) -> None:
    timeline.go_to(BEGIN + 1000)
    previous = timeline.read().previous
    assert previous is not None
    assert previous["time"] == BEGIN + 990
    for seconds in (0, 240):
        timeline.go_to(BEGIN + seconds)
        assert timeline.read().previous is None
    timeline.close()


def test_a_document_of_the_past_is_a_sample(timeline: Timeline) -> None:
    timeline.go_to(BEGIN + 1000)
    sample = make_sample(timeline.read().document)
    assert [(h.owner.name, h.mappings, h.exact) for h in sample.owners] == [
        ("web", 2000, True),
        ("db", 500, True),
    ]
    known = figures(sample, None)
    assert (known.mappings, known.confidence, known.kernel_mappings) == (2500, "exact", 115)
    assert known.unmerge["verdict"] == "fits"
    timeline.close()


def test_doubt_then_is_doubt_now(directory: Path) -> None:
    store = Store(directory / FILE_NAME, 10**7)
    store.add(past_moment(5000.0, {"web": 7}, doubt="events were lost", numbers=numbers(ksm=None)))
    store.close()
    timeline = Timeline(directory, lambda: NOW)
    timeline.go_to(9e9)
    known = figures(make_sample(timeline.read().document), None)
    assert (known.confidence, known.reason) == ("unknown", "events were lost")
    assert known.unmerge["verdict"] == "unknown"
    assert (known.kernel_mappings, known.saved_bytes, known.full_scans) == (None, None, None)
    timeline.close()


def test_sparklines_begin_with_the_last_hour(timeline: Timeline) -> None:
    points = timeline.traces()["vm", "libvirt/web"]
    assert len(points) == 120
    assert points[-1] == (BEGIN + LAST, 1000 + LAST)
    timeline.go_to(BEGIN + 600)
    values = [value for _, value in timeline.traces()["vm", "libvirt/web"]]
    # From 110 to 240: a value in half a minute, and none at 140, 170 and 200.
    assert values.count(None) == 3
    assert len(values) == 21
    timeline.close()


def test_a_sparkline_goes_on_while_nothing_moves(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE_NAME, 10**7)
    for seconds, count in ((0, 100), (60, 100), (120, 160)):
        store.add(past_moment(float(seconds), {"web": count}, since=max(0.0, seconds - 60.0)))
    store.close()
    timeline = Timeline(tmp_path, lambda: BEGIN + 130)
    values = [value for _, value in timeline.traces()["vm", "libvirt/web"]]
    assert values == [100, 100, 100, 100, 160]
    timeline.close()


def test_without_a_history_there_is_a_sentence(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path)
    with pytest.raises(HistoryError, match="There is no history in"):
        timeline.move(Move(-1))
    Store(tmp_path / FILE_NAME, 10**7).close()
    with pytest.raises(HistoryError, match="is empty"):
        timeline.go_to(0.0)
    timeline.close()


# -- For scripts -----------------------------------------------------------------------------


def test_moments_one_after_the_other(timeline: Timeline) -> None:
    timeline.go_to(BEGIN + LAST - 10)
    past, out = PastSource(timeline), io.StringIO()
    printing = Batch(Options(rates=True), OutputForm.JSON, times=None)
    assert past.previous is not None
    with pytest.raises(SourceError, match="The history ends here"):
        batch.run(past, printing, out, lambda _: None, make_sample(past.previous))
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [document["time"] - BEGIN for document in found] == [LAST - 10, LAST]
    assert found[0]["rows"][0]["came"] == 0
    past.close()


def test_at_needs_no_daemon(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["top", f"--history.directory={directory}", "--socket=/nowhere", "--once"]
    assert cli.main([*words, "--at", f"@{int(BEGIN) + 1000}"]) == Exit.OK
    text = capsys.readouterr().out
    assert "history of " in text
    assert "web" in text
    assert cli.main([*words, "--at=-2h", "--url=http://localhost/"]) == Exit.USAGE
    assert "another host" in capsys.readouterr().err
    assert cli.main(["top", "--history.directory=/nowhere", "--once", "--at", "-2h"]) == 8


# -- In a terminal ---------------------------------------------------------------------------


def test_keys_go_back_and_return(timeline: Timeline) -> None:
    async def script(screen: Screen) -> None:
        async def until(text: str, *, there: bool = True) -> None:
            while (text in screen.below) is not there:
                await screen.pilot.pause(0.01)

        await screen.press("T")
        await until("! PAST. ")
        assert screen.names == ["web", "db"]
        (line,) = [line for line in screen.below.splitlines() if "PAST" in line]
        assert line.endswith("p: now")
        before = screen.rows[1]
        await screen.press("J")
        while screen.rows[1] == before:
            await screen.pilot.pause(0.01)
        bars = next(line for line in screen.below.splitlines() if line.startswith("history"))
        assert "▁" in bars
        assert "█" in bars
        assert " min" in bars
        await screen.press("p")
        await until("! PAST. ", there=False)
        assert len(screen.names) == 7
        # Pause works as before.
        await screen.press("p")
        assert "! PAUSED." in screen.below

    play(script, timeline=timeline)


def test_a_sparkline_is_there_at_once(directory: Path) -> None:
    timeline = Timeline(directory, lambda: NOW)
    timeline.go_to(BEGIN + LAST)

    async def script(screen: Screen) -> None:
        assert "! PAST. " in screen.below
        assert sum(screen.below.count(bar) for bar in "▁▂▃▄▅▆▇█") > 20
        await screen.press("t")
        while "! PAST. " in screen.below:
            await screen.pilot.pause(0.01)

    play(script, timeline=timeline)


def test_without_a_history_a_page_says_so() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("T")
        while "no history" not in screen.app.screen_stack[-1].query_one("Lines").text:  # type: ignore[attr-defined]
            await screen.pilot.pause(0.01)
        await screen.press("escape")
        assert len(screen.names) == 7

    play(script)
