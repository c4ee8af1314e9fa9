"""10,000 hostile processes through everything that is printed, served or drawn."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch import terminal_text
from ksmwatch.commands import forecast, peers_view
from ksmwatch.commands import snapshot as snapshot_command
from ksmwatch.diagnose import sharers
from ksmwatch.diagnose.sharers import Party, Sharing
from ksmwatch.export.samples import Series
from ksmwatch.kernel.procfs import unified_path
from ksmwatch.option_values import OutputForm
from ksmwatch.owners.judgement import owner_of
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Process
from ksmwatch.top import columns, details, header
from ksmwatch.top.batch import Batch, run
from ksmwatch.top.host_figures import figures
from ksmwatch.top.rows import build
from ksmwatch.top.sample import make_sample
from ksmwatch.top.toned_text import plain
from ksmwatch.top.view import Grouping, Options
from tests.exposed import exposed
from tests.hostile import ARGVS, CGROUPS, TEXTS, UIDS, examples
from tests.made_up import process, snapshot
from tests.made_up_host import Documents

HARMFUL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
# Each example has this many processes: 10,000 in all.
EXAMPLES, CROWD = 400, 25

# What /proc shows: a comm has 15 bytes and is decoded with replacements; psutil's name is longer,
# and has surrogates for bytes that are not UTF-8.
COMMS = TEXTS.map(lambda t: os.fsencode(t.encode(errors="replace").decode())[:15]).map(
    lambda raw: raw.decode(errors="replace")
)
NAMES = st.binary(max_size=40).map(lambda raw: raw.decode(errors="surrogateescape"))


def hostile(argv: bytes, cgroup: str, comm: str, name: str, uid: int, user: str) -> Process:
    """A process as the daemon derives it from /proc."""
    raw = cgroup.encode(errors="surrogatepass")
    owner = owner_of(argv, raw, comm, uid, {1000: user})
    return process(owner=owner, cgroup=unified_path(raw), comm=comm, name=comm + name)


PROCESSES = st.builds(hostile, ARGVS, CGROUPS, COMMS, NAMES, UIDS, TEXTS)
CROWDS = st.lists(PROCESSES, min_size=CROWD, max_size=CROWD)


def crowd(found: list[Process]) -> Snapshot:
    """A host of these, with their own pids, whose cgroups all have limits."""
    members = tuple(p._replace(pid=100 + at, start_time=at) for at, p in enumerate(found))
    rooms = {p.cgroup: 4096 for p in members if p.cgroup and p.cgroup != "/"}
    return snapshot(processes=members, rooms=rooms, moved={})


def assert_lines(text: str, count: int | None = None) -> None:
    """Harmless lines that any terminal shows and any file takes, and no more of them than meant."""
    text.encode()
    for line in text.split("\n"):
        if not line.isprintable():
            assert not {unicodedata.category(c) for c in line} & HARMFUL
    assert count is None or text.count("\n") == count


def assert_metrics(made: Snapshot) -> None:
    text = exposed(made, Series(100, processes=True))
    rows = {
        tuple(sample.labels[label] for label in ("kind", "name", "id")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ksmwatch_owner_mappings"
    }
    assert rows == {(h.owner.kind, h.owner.name, h.owner.id): h.mappings for h in made.owners}
    assert sum(rows.values()) == made.mappings


def assert_top(document: dict[str, Any], grouping: Grouping) -> None:
    options = Options(grouping=grouping, tree=True)
    for form in OutputForm:
        out = io.StringIO(newline="")
        run(Documents(document), Batch(options, form), out)
        text = out.getvalue()
        if form is OutputForm.TEXT:
            assert_lines(text)
        elif form is OutputForm.JSON:
            assert len(json.loads(text)["rows"]) == len(build_rows(document, options))
            assert_lines(text, 1)
        else:
            table = list(csv.reader(io.StringIO(text, newline="")))
            assert {len(row) for row in table} == {len(table[0])}
            assert_lines(text, len(table))
    assert_drawn(document, options)


def build_rows(document: dict[str, Any], options: Options) -> list[Any]:
    return list(build(make_sample(document), None, options).rows)


def assert_drawn(document: dict[str, Any], options: Options) -> None:
    """Cells of the table, the details and the header, of the width that they should have."""
    sample = make_sample(document)
    view = build(sample, None, options)
    shown = columns.chosen(options, 80)
    for row in view.rows:
        cells = columns.line(row, shown, view)
        for cell, column in zip(cells, shown, strict=True):
            assert_lines(cell, 0)
            assert sum(map(terminal_text._columns, cell)) == column.width
        for line in details.lines(row, view, [1, 2], 56):
            assert_lines(plain(line), 0)
    for line in header.lines(sample, figures(sample, None), options, 80):
        assert_lines(plain(line), 0)


def assert_peers(document: dict[str, Any]) -> None:
    sharing, parties = Sharing(), []
    for at, owner in enumerate(document["owners"]):
        key = owner["kind"], owner["id"]
        parties.append(Party(*key, owner["name"], sharers.tenant_of(*key, [("a", "*[!]*")]), 5))
        sharing.add(at, {1: 1, at: 2})
    cost = sharers.Cost(1, 1, 1.0, 1.0)
    result = sharers.judge(parties, sharing, "kpageflags", (), cost)
    matrix = peers_view.matrix(result, 80)
    assert_lines(matrix)
    assert max(map(len, matrix.splitlines())) <= 80
    assert_lines(peers_view.listing(result, parties[0]))
    assert_lines(json.dumps(peers_view.document(result, None)), 0)


# A quarter of a minute of CPU time.
@pytest.mark.timeout(600)
@examples(EXAMPLES)
@given(found=CROWDS, grouping=st.sampled_from(list(Grouping)))
def test_nothing_that_is_shown_breaks(found: list[Process], grouping: Grouping) -> None:
    made = crowd(found)
    assert_metrics(made)
    document = to_document(made)
    line = json.dumps(document)
    assert_lines(line, 0)
    # As it arrives at the other end of the socket.
    document = json.loads(line)
    assert_lines(snapshot_command.text(document), 4 + len(found))
    assert_lines(forecast.text(document), 3 + len(made.owners))
    assert_top(document, grouping)
    assert_peers(document)


@pytest.mark.parametrize("name", ["\udcff", "a\nb", "\x1b[2J", "x" * 4096, "\u202e"])
def test_a_hostile_name_alone(name: str) -> None:
    test = hostile(b"", "0::/", name.encode(errors="replace").decode()[:15], name, 0, "")
    assert_top(to_document(crowd([test])), Grouping.PROCESS)
