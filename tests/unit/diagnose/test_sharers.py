"""Who shares with whom: the judgement, its inputs, and the output."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch import config
from ksmwatch.commands import peers, peers_view
from ksmwatch.diagnose import sharers
from ksmwatch.diagnose.sharers import Cost, Party, Result, Sharing
from ksmwatch.errors import ConfigError, NoKsmError, PrivilegeError
from ksmwatch.kernel import frame_source
from ksmwatch.kernel.page_frames import AnyFrame
from ksmwatch.units import PAGE_SIZE
from tests.fakes import Proc
from tests.published import faults

COST = Cost(processes=3, pages=400, seconds=0.25, cpu_seconds=0.125)


def party(name: str, kind: str = "vm", tenant: str | None = None) -> Party:
    return Party(kind, f"id-{name}", name, tenant or f"{kind}:id-{name}", 100)


def judged(
    frames: dict[str, dict[int, int]], doubts: tuple[str, ...] = (), tenants: str = ""
) -> Result:
    """Of parties by name; those named in `tenants` are one tenant."""
    sharing = Sharing()
    parties = [party(name, tenant="one" if name in tenants else None) for name in frames]
    for at, found in enumerate(frames.values()):
        sharing.add(at, found)
    return sharers.judge(parties, sharing, "kpageflags", doubts, COST)


def common(result: Result) -> dict[str, int]:
    return {pair.first.party.name + pair.second.party.name: pair.pages for pair in result.pairs}


# ---- judgement ----


def test_pages_in_common_are_counted_once_however_often_they_are_mapped() -> None:
    result = judged({"a": {1: 5, 2: 1, 3: 1}, "b": {1: 1, 2: 7, 9: 1}, "c": {9: 1, 4: 1}})
    assert common(result) == {"ab": 2, "bc": 1}
    assert (result.distinct, result.mappings, result.counted) == (5, 18, 300)
    assert {s.party.name: (s.mappings, s.pages, s.alone) for s in result.shares} == {
        "a": (7, 3, 1),
        "b": (9, 3, 0),
        "c": (2, 2, 1),
    }


PAGES = st.dictionaries(st.integers(0, 12), st.integers(1, 3), max_size=8)


@given(st.lists(PAGES, min_size=1, max_size=5))
def test_it_agrees_with_comparing_sets(found: list[dict[int, int]]) -> None:
    sets = {chr(97 + at): pages for at, pages in enumerate(found)}
    result = judged(sets)
    expected = {
        a + b: len(sets[a].keys() & sets[b].keys())
        for a, b in combinations(sets, 2)
        if sets[a].keys() & sets[b].keys()
    }
    assert common(result) == expected
    assert result.distinct == len(set().union(*sets.values()))
    assert result.mappings == sum(sum(pages.values()) for pages in found)
    ptes: Counter[int] = sum(map(Counter, found), Counter())
    assert result.sharers == Counter(2 ** math.ceil(math.log2(n)) for n in ptes.values())


def test_pages_that_lost_their_other_sharers_are_told_apart() -> None:
    result = judged({"a": {1: 1, 2: 1, 3: 2, 4: 3}, "b": {2: 1, 4: 1, 5: 9}})
    assert result.sharers == {1: 1, 2: 2, 4: 1, 16: 1}
    assert peers_view.matrix(result).splitlines()[1:3] == [
        "mapped by   1 PTE, which saves nothing: 1; 2 PTEs: 2; up to 4 PTEs: 1;",
        "            up to 16 PTEs: 1",
    ]


def test_several_processes_of_a_party_add_up() -> None:
    sharing = Sharing()
    sharing.add(0, {1: 1})
    sharing.add(0, {1: 2, 2: 1})
    assert sharing.sets() == Counter({(0,): 2})
    assert sharing.mappings(0) == 4


LABELS = (("shop", "pod:*"), ("shop", "vm:shop-[12]"), ("host", "unit:*.service"))


@pytest.mark.parametrize(
    ("kind", "ident", "tenant"),
    [
        ("pod", "0a1b", "shop"),
        ("vm", "shop-2", "shop"),
        ("vm", "shop-3", "vm:shop-3"),
        ("unit", "a.service", "host"),
        ("unit", "A.SERVICE", "unit:A.SERVICE"),
    ],
)
def test_a_tenant_is_the_first_label_or_the_owner(kind: str, ident: str, tenant: str) -> None:
    assert sharers.tenant_of(kind, ident, LABELS) == tenant


@pytest.mark.parametrize("text", ["label", "=x", "a:b=x", "a=", 5])
def test_labels_that_say_nothing_are_refused(text: Any) -> None:
    with pytest.raises(ConfigError, match="LABEL=PATTERN"):
        config.make({}, {"peers_tenant": [text]})


def test_labels_come_from_the_configuration() -> None:
    settings = config.make({"peers.tenant": ["shop=pod:*", "a=vm:b=c"]}, {})
    assert settings.peers_tenant == (("shop", "pod:*"), ("a", "vm:b=c"))


# ---- what is printed ----


def test_the_matrix_is_symmetric_and_marks_borders() -> None:
    result = judged({"a": {1: 1, 2: 1, 3: 1}, "b": {1: 1, 2: 1}, "c": {3: 1}}, tenants="ab")
    assert peers_view.matrix(result).splitlines() == [
        "KSM pages   3 (exact), mapped 6 times, live count 300",
        "mapped by   2 PTEs: 3",
        "cost        0.2 s, 0.1 s of CPU: 400 entries of 3 processes by kpageflags",
        "",
        "  # OWNER                KIND          PAGES       1        2        3",
        "  1 a                    vm                3       -        2        1!",
        "  2 b                    vm                2       2        -        0",
        "  3 c                    vm                1       1!       0        -",
        "",
        "! crosses a border between tenants: 1 of 2 pairs that have pages in common.",
    ]


def test_only_as_many_owners_are_shown_as_fit() -> None:
    frames = {chr(97 + at): dict.fromkeys(range(20 - at), 1) for at in range(12)}
    text = peers_view.matrix(judged(frames), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("8 more owners have fewer pages; --json lists all.")
    assert "more owners" not in peers_view.matrix(judged(frames))


def test_doubts_are_said_and_nobody_is_said() -> None:
    text = peers_view.matrix(judged({"a": {}}, doubts=("something\x1b[31m",)))
    assert "0 (estimated)" in text
    assert "because     something?[31m" in text
    assert text.endswith("No owner has KSM pages.")


def test_a_list_has_the_peers_of_one() -> None:
    result = judged({"a": {1: 1, 2: 1}, "b": {1: 1}, "c": {3: 1}}, tenants="ab")
    text = peers_view.listing(result, party("a", tenant="one"))
    assert text.splitlines()[3:] == [
        "of these    2 are mapped by vm a, 1 by nobody else",
        "",
        "PEER  KIND  ID    PAGES  BORDER",
        "b     vm    id-b      1  same tenant",
    ]
    alone = peers_view.listing(result, party("c"))
    assert alone.endswith("It shares no KSM pages.")


def test_json_has_every_pair_or_those_of_one() -> None:
    result = judged({"a": {1: 1}, "b": {1: 1, 2: 1}, "c": {2: 1}})
    everything = peers_view.document(result, None)
    assert len(everything["pairs"]) == 2
    assert json.loads(json.dumps(everything)) == everything
    one = peers_view.document(result, party("c"))
    assert faults(everything) == faults(one) == []
    assert [pair["pages"] for pair in one["pairs"]] == [1]
    assert one["subject"] == {"kind": "vm", "id": "id-c", "pid": None}


# ---- what is read ----

KSM, ANON, PRESENT = 1 << 21, 1 << 12, 1 << 63
AREA = """\
{start:x}-{end:x} rw-p 00000000 00:00 0
Anonymous:           400 kB
KSM:            {ksm:8d} kB
VmFlags: rd wr mr mw me ac mg
"""


class Host:
    """An invented /proc, and what a daemon says about it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = Proc(path)
        self.document: dict[str, Any] = {
            "mode": "bpf",
            "host": {"unnamed_mappings": 0, "confidence": "exact"},
            "owners": [],
            "processes": [],
            "totals": {"merged": 100, "unmapped": 10},
        }
        monkeypatch.setattr(peers, "_PROC", path)
        self.frames = [1]
        monkeypatch.setattr(frame_source, "own_frames", lambda _: nullcontext(self.frames))
        monkeypatch.setattr(frame_source, "honest", lambda *_: True)
        (path / "kpageflags").write_bytes(struct.pack("=8Q", *[KSM] * 6, ANON, KSM))

    def add(self, pid: int, owner: str, frames: list[int], *, counted: int | None = None) -> None:
        """A process of an owner whose memory is in these frames; 6 is not a KSM page."""
        directory = self.proc.process(pid)
        end = len(frames) * PAGE_SIZE
        (directory / "smaps").write_text(AREA.format(start=0, end=end, ksm=4))
        entries = [PRESENT | frame for frame in frames]
        (directory / "pagemap").write_bytes(struct.pack(f"={len(frames)}Q", *entries))
        mappings = sum(f != 6 for f in frames) if counted is None else counted
        key = {"kind": "vm", "id": owner}
        process = {"pid": pid, "start_time": 5000, "name": "kvm", "mappings": mappings}
        self.document["processes"].append(process | {"owner": key})
        owners = self.document["owners"]
        found = next((o for o in owners if o["id"] == owner), None)
        if found is None:
            owners.append(key | {"name": owner.upper(), "mappings": mappings})
        else:
            found["mappings"] += mappings

    def run(
        self,
        capsys: pytest.CaptureFixture[str],
        subject: str | None = None,
        *,
        pages: int = 1000,
        after: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> dict[str, Any]:
        """The JSON output. `after`: what has happened by the second look."""
        looks = [self.document, json.loads(json.dumps(self.document))]
        after(looks[1])
        answers = iter(looks)
        wish = peers.PeersRequest(subject, (), pages, 60.0)
        peers.run(lambda: next(answers), wish, as_json=True)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path, monkeypatch)
    made.add(10, "web", [1, 2, 3, 6])
    made.add(11, "web", [3, 3])
    made.add(12, "db", [2, 4, 6])
    return made


def pairs(found: dict[str, Any]) -> dict[tuple[tuple[str, int | None], ...], int]:
    return {
        tuple(sorted((o["id"], o["pid"] or 0) for o in pair["owners"])): pair["pages"]
        for pair in found["pairs"]
    }


def test_frames_are_joined_by_owner(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    found = host.run(capsys)
    assert (found["confidence"], found["told_by"]) == ("exact", "kpageflags")
    assert pairs(found) == {(("db", 0), ("web", 0)): 1}
    assert (found["pages"], found["mappings"], found["counted_mappings"]) == (4, 7, 7)
    assert {o["name"]: o["pages"] for o in found["owners"]} == {"WEB": 3, "DB": 2}
    assert found["cost"]["processes"] == 3
    assert found["cost"]["pages"] == 9


def test_a_process_stands_beside_the_rest_of_its_owner(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    found = host.run(capsys, "10")
    assert pairs(found) == {(("db", 0), ("web", 10)): 1, (("web", 0), ("web", 10)): 1}
    crossing = {pairs({"pairs": [p]}).popitem()[0]: p["crosses_border"] for p in found["pairs"]}
    assert crossing == {(("db", 0), ("web", 10)): True, (("web", 0), ("web", 10)): False}


@pytest.mark.parametrize("wanted", ["db", "DB", "vm:db"])
def test_an_owner_is_found_by_name_id_or_key(
    host: Host, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    assert host.run(capsys, wanted)["subject"]["id"] == "db"


def test_who_is_not_there_or_not_alone_is_said(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="No process or owner 'mail' has KSM pages"):
        host.run(capsys, "mail")
    host.add(13, "DB", [1])
    with pytest.raises(ConfigError, match="use one of vm:db, vm:DB"):
        host.run(capsys, "DB")


def change(where: str, name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document[where].__setitem__(name, value)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (change("totals", "unmapped", 13), "3 KSM mappings came or went while"),
        (change("host", "confidence", "estimated"), "the live count is estimated"),
        (change("host", "unnamed_mappings", 4), "4 mappings belong to no known process"),
        (lambda document: document.update(mode="poll"), "counts are polled"),
    ],
)
def test_what_makes_it_an_estimate_is_said(
    host: Host,
    capsys: pytest.CaptureFixture[str],
    after: Callable[[dict[str, Any]], object],
    reason: str,
) -> None:
    found = host.run(capsys, after=after)
    assert found["confidence"] == "estimated"
    assert found["reasons"][0].startswith(reason)


def test_what_was_not_found_is_said(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.add(13, "mail", [5], counted=2)
    assert host.run(capsys)["reasons"] == ["8 mappings were found, but 9 are counted"]


def test_a_limit_leaves_out_what_is_too_much_and_says_so(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    found = host.run(capsys, pages=6)
    assert found["reasons"] == [
        "2 mappings were not read: the limit of pages or seconds was reached"
    ]
    assert found["cost"]["pages"] <= 6
    assert found["cost"]["processes"] == 2


def test_who_has_ended_or_is_another_is_not_read(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.proc.process(12, ticks=6000)
    host.proc.end(11)
    found = host.run(capsys)
    assert found["reasons"] == [
        "2 mappings were not read: No such file or directory",
        "2 mappings were not read: the PID now belongs to another process",
    ]
    assert pairs(found) == {}


def test_where_nothing_tells_pages_apart_it_is_an_estimate(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_source, "honest", lambda *_: False)
    found = host.run(capsys)
    assert found["told_by"] == AnyFrame.name
    # The page that is not KSM is in common as well.
    assert pairs(found) == {(("db", 0), ("web", 0)): 2}
    assert found["confidence"] == "estimated"
    assert found["reasons"][0].startswith(
        "KSM pages cannot be distinguished from others (kpageflags is wrong about ksmwatch's own "
    )


def test_hidden_frame_numbers_and_no_ksm_are_refused(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.frames = [0]
    with pytest.raises(PrivilegeError, match="CAP_SYS_ADMIN"):
        host.run(capsys)
    host.document["mode"] = "none"
    with pytest.raises(NoKsmError):
        host.run(capsys)


def test_text_is_a_matrix_or_a_list(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    for subject, head in ((None, "# OWNER"), ("db", "PEER")):
        wish = peers.PeersRequest(subject, (), 1000, 60.0)
        peers.run(lambda: host.document, wish, as_json=False)
        assert head in capsys.readouterr().out


def test_the_bar_is_drawn_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bar_and_end = f"\r[{'#' * 15}{'.' * 15}] 5 of 10 mappings\r\x1b[K"
    for terminal, expected in ((False, ""), (True, bar_and_end)):
        monkeypatch.setattr("sys.stderr.isatty", lambda on=terminal: on)
        bar = peers.Bar()
        bar.show(5, 10)
        bar.end()
        assert capsys.readouterr().err == expected
