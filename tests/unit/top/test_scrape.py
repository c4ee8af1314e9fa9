"""A document from the metrics of another host: what they tell is the same, the rest unknown."""

from __future__ import annotations

import dataclasses
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.errors import ConfigError, NoDaemonError, SourceError
from ksmwatch.export.samples import Series
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Confidence
from ksmwatch.top import header, scrape
from ksmwatch.top.alerts import alerts_of
from ksmwatch.top.host_figures import figures
from ksmwatch.top.rows import build
from ksmwatch.top.sample import make_sample
from ksmwatch.top.scrape import Scrape
from ksmwatch.top.values import value
from ksmwatch.top.view import Options
from tests.exposed import exposed
from tests.made_up import nothing, poll, process, snapshot

# What metrics do not tell.
UNTOLD = {
    *("start_time", "name", "last_read_seconds", "residue", "stray_areas", "owner", "zero_pages"),
    "ppid",
}


ALL = Series(processes=True)


def text(made: Snapshot, series: Series = ALL) -> str:
    return exposed(made, series)


def scraped(made: Snapshot) -> dict[str, Any]:
    return scrape.parse(text(made), "here")


BUSY = snapshot(
    processes=(
        process(),
        process(pid=43, confidence=Confidence.ESTIMATED, kernel_merging_pages=None, stray=None),
    ),
    losses={"events_lost": 3},
)


@pytest.mark.parametrize("made", [snapshot(), BUSY, poll(), nothing()])
def test_processes_are_those_of_the_document(made: Snapshot) -> None:
    ours, theirs = scraped(made)["processes"], to_document(made)["processes"]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        told = one.keys() - UNTOLD
        assert {k: one[k] for k in told} == {k: other[k] for k in told}


@pytest.mark.parametrize("made", [snapshot(), BUSY, poll(), snapshot(unnamed=5)])
def test_owners_are_those_of_the_document(made: Snapshot) -> None:
    ours, theirs = scraped(made)["owners"], to_document(made)["owners"]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        told = one.keys() - {"unmerge"}
        assert {k: one[k] for k in told} == {k: other[k] for k in told}


def test_a_host_that_serves_no_processes_has_rows_by_owner() -> None:
    made = scrape.parse(text(snapshot(), Series(processes=False)), "here")
    view = build(make_sample(made), None, Options())
    found = [(r.of.name, r.of.mappings, value(r.of, "procs", view)) for r in view.rows]
    assert found == [("tenant.service", 100, 1)]


@pytest.mark.parametrize("made", [snapshot(), BUSY, poll()])
def test_facts_are_those_of_the_document_or_unknown(made: Snapshot) -> None:
    ours = dataclasses.asdict(figures(make_sample(scraped(made)), None))
    theirs = dataclasses.asdict(figures(make_sample(to_document(made)), None))
    assert ours["mappings"] == made.mappings
    # Why, and memory, are not in the metrics.
    for name in ours.keys() - {"reason", "available_bytes", "unmerge"}:
        assert ours[name] == theirs[name]


def test_alerts_are_those_of_the_document() -> None:
    def alerts(document: dict[str, Any]) -> list[str]:
        sample = make_sample(document)
        return [a.text for a in alerts_of(sample, figures(sample, None), Options())]

    assert alerts(scraped(BUSY))[1:] == alerts(to_document(BUSY))[1:]
    assert alerts(scraped(BUSY))[0] == "estimated: 1 process"


def test_without_ksm() -> None:
    made = scraped(nothing())
    assert (made["mode"], made["processes"], made["sources"]["ksm"]) == ("none", [], None)
    sample = make_sample(made)
    assert header.lines(sample, figures(sample, None), Options(), 80)


@given(st.text())
def test_a_hostile_comm_comes_through(comm: str) -> None:
    comm = comm.encode(errors="replace").decode()
    (found,) = scraped(snapshot(processes=(process(comm=comm),)))["processes"]
    assert found["comm"] == comm


@pytest.mark.parametrize(
    "answer", ["", "<html>", "up 1\n", "ksmwatch_build_info 1\n", text(snapshot()) + "x{\x00"]
)
def test_other_answers(answer: str) -> None:
    with pytest.raises(SourceError, match="here does not serve ksmwatch's metrics"):
        scrape.parse(answer, "here")


# ---- over HTTP ----


class Answer(http.server.BaseHTTPRequestHandler):
    """The metrics of an invented host at /metrics."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(text(snapshot()).encode())

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_scrape(address: str) -> None:
    assert Scrape(f"{address}/metrics").read() == scraped(snapshot())


def test_nobody_and_nothing_there(address: str) -> None:
    with pytest.raises(NoDaemonError, match=f"Nothing answers at {address}/: .*Not Found"):
        Scrape(f"{address}/").read()
    with pytest.raises(NoDaemonError, match=r"Nothing answers at .*: \[Errno 111\]"):
        Scrape("http://127.0.0.1:1/metrics").read()
    with pytest.raises(NoDaemonError, match="Nothing answers at http://"):
        Scrape("http://").read()


def test_files_are_no_addresses() -> None:
    with pytest.raises(ConfigError, match="must begin with http"):
        Scrape("file:///etc/passwd")
