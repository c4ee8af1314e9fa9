"""The page of metrics keeps what has not changed, and is what the library makes of everything."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ksmwatch.export.front import exposition, family_text, gzip_pieces
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.front.gzip_pieces import GzipPieces
from ksmwatch.export.metric_family import COUNT, INFINITE, SUM, LabelledValue, Samples, Spec

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SPECS = (
    Spec("ksmwatch_one", "gauge", "A \\ and\na line feed."),
    Spec("ksmwatch_of_owners", "counter", "By owner.", ("name", "id")),
    Spec("ksmwatch_by_kind", "gauge", "By kind.", ("kind",)),
)
NAMES = [spec.name for spec in SPECS]
# Labels and values are few, so that they come back, and some must be escaped.
LABELS = st.sampled_from(["a", "b", 'quoted "', "back\\slash", "line\nfeed", "0.0", "ü", ""])
VALUES = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, 1e300, float("inf"), True]), st.just(2**60)
)


def rows(spec: Spec) -> st.SearchStrategy[list[LabelledValue]]:
    labels = st.tuples(*[LABELS] * len(spec.labels))
    return st.lists(st.tuples(labels, VALUES), max_size=6, unique_by=lambda row: row[0])


PAGES: st.SearchStrategy[Samples] = st.tuples(*map(rows, SPECS)).map(
    lambda found: list(zip(NAMES, found, strict=True))
)


class Everything(Collector):
    """The samples as the library wants them, without any of our code."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Every family with a sample."""
        for spec, (_, found) in zip(SPECS, self._samples, strict=True):
            make = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            family = make(spec.name, spec.help, labels=spec.labels)
            for labels, value in found:
                family.add_metric(labels, value)
            if found:
                yield family


@given(st.lists(PAGES, min_size=1, max_size=6), st.sampled_from([1, 40, 10_000]))
def test_each_page_is_what_the_library_makes_of_its_samples(
    pages: Sequence[Samples], piece: int
) -> None:
    shown = Exposition(SPECS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exposition, "_PIECE_BYTES", piece)
        for samples in pages:
            shown.take(samples)
            for accept in ("", OPENMETRICS):
                encode, kind = choose_encoder(accept)
                plain = shown.page(accept)
                assert plain.headers["Content-Type"] == kind
                assert plain.body == encode(Everything(samples))
                packed = shown.page(accept, "gzip")
                assert packed.headers["Content-Encoding"] == "gzip"
                assert unpacked(packed.body) == plain.body


AGES = Spec("ksmwatch_age_seconds", "histogram", "How old.", ("reason",))


class Histogram(Collector):
    """A histogram as the library wants it: counts up to 1, 2 and any number, and the sum."""

    def __init__(self, found: Sequence[tuple[str, tuple[int, int, int], float]]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(AGES.name, AGES.help, labels=AGES.labels)
        for reason, counts, total in self._found:
            buckets = list(zip(("1.0", "2.0", "+Inf"), map(float, counts), strict=True))
            family.add_metric([reason], buckets, total)
        yield family


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_histogram_is_what_the_library_makes_of_it(accept: str) -> None:
    shown = Exposition([AGES])
    encode, _ = choose_encoder(accept)
    for found in (
        [("copied", (0, 0, 0), 0.0)],
        [("copied", (0, 3, 4), 12.5), ("exited", (1, 1, 1), 0.25)],
        [("copied", (0, 3, 5), 1e6), ("exited", (1, 1, 1), 0.25)],
    ):
        samples: list[LabelledValue] = []
        for reason, counts, total in found:
            ends = zip(("1.0", "2.0", INFINITE), counts, strict=True)
            samples += [((reason, end), n) for end, n in ends]
            samples += [((reason, COUNT), counts[-1]), ((reason, SUM), total)]
        shown.take([(AGES.name, samples)])
        assert shown.page(accept).body == encode(Histogram(found))


def unpacked(data: bytes) -> bytes:
    """As a client does that knows only one gzip member."""
    client = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = client.decompress(data)
    assert client.eof
    assert client.unused_data == b""
    return found


def owners(amount: int, **changed: int) -> list[LabelledValue]:
    return [((name, name), changed.get(name, 1)) for name in map("owner{}".format, range(amount))]


def test_the_library_renders_nothing_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Exposition(SPECS, [(NAMES[1], owners(50))])
    first = shown.page().body
    calls: list[int] = []

    def count(spec: Spec, samples: Sequence[LabelledValue], encode: object) -> str:
        calls.append(len(samples))
        return rendered(spec, samples, encode)  # type: ignore[arg-type]

    rendered = family_text.rendered
    monkeypatch.setattr(family_text, "rendered", count)
    shown.take([(NAMES[1], owners(50))])
    assert shown.page().body == first
    shown.take([(NAMES[1], owners(50, owner7=8))])
    assert b'ksmwatch_of_owners_total{id="owner7",name="owner7"} 8.0\n' in shown.page().body
    assert calls == []
    shown.take([(NAMES[1], owners(51))])
    assert shown.page().body.startswith(first)
    assert calls == [1]


def test_a_piece_that_is_known_is_not_compressed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[bytes] = []
    deflated = gzip_pieces._deflated

    def count(piece: bytes) -> bytes:
        compressed.append(piece)
        return deflated(piece)

    monkeypatch.setattr(gzip_pieces, "_deflated", count)
    pieces = GzipPieces()
    owners = b"owners " * 1000
    for text in ([b"host 1", owners], [b"host 2", owners], [b"host 2", owners, b"end"], [owners]):
        assert unpacked(pieces.compress(text)) == b"".join(text)
    assert compressed == [b"host 1", owners, b"host 2", b"end"]


def test_clients_that_invent_formats_do_not_fill_the_memory() -> None:
    shown = Exposition(SPECS, [(NAMES[0], [((), 1)])])
    for version in range(100):
        page = shown.page(f"application/openmetrics-text; version=1.0.{version}")
        assert f"version=1.0.{version};" in page.headers["Content-Type"]
    assert len(shown._formats) == exposition._MAX_FORMATS


def test_a_family_that_is_in_no_catalogue_is_refused() -> None:
    with pytest.raises(KeyError):
        Exposition(SPECS, [("ksmwatch_unknown", [((), 1)])]).page()
