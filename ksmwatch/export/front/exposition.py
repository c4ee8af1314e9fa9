"""The page of metrics, as text and compressed. Only fronts import this: the library takes 5 MB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.exposition import choose_encoder, gzip_accepted

from ksmwatch.export.front.family_text import Encoder, FamilyText, end_of_page
from ksmwatch.export.front.gzip_pieces import GzipPieces
from ksmwatch.export.front.page import Page
from ksmwatch.export.metric_family import Samples, Spec

# A text of this size is a piece of its own when the page is compressed. Smaller ones, which are
# mostly about the host, are compressed together, but no more of them than make a larger piece: each
# costs as much as compressing two kilobytes, and those that change with each scrape come last.
_PIECE_BYTES = 2048
_JOINED_BYTES = 4 * _PIECE_BYTES
# Clients choose among the library's formats and versions, of which there are many. The texts of so
# many are kept.
_MAX_FORMATS = 4
_ENCODED = {"Content-Encoding": "gzip"}


class _Format:
    """The page in one of the library's formats. What has not changed is kept."""

    def __init__(self, kind: str, encode: Encoder) -> None:
        self._headers = {"Content-Type": kind, "Vary": "Accept, Accept-Encoding"}
        self._encode = encode
        self._end = end_of_page(encode)
        self._families: dict[str, FamilyText] = {}
        self._gzip = GzipPieces()
        # Of these samples.
        self._samples: Samples | None = None
        self._texts: list[bytes] = []
        self._pages: dict[bool, Page] = {}

    def page(self, specs: Mapping[str, Spec], samples: Samples, *, compressed: bool) -> Page:
        """The page of these samples."""
        if samples is not self._samples:
            self._texts = self._rendered(specs, samples)
            self._samples, self._pages = samples, {}
        if compressed not in self._pages:
            self._pages[compressed] = self._page(compressed=compressed)
        return self._pages[compressed]

    def _rendered(self, specs: Mapping[str, Spec], samples: Samples) -> list[bytes]:
        """The text of each family that has a sample, and the end of the page."""
        before, self._families, texts = self._families, {}, []
        for name, found in samples:
            if found:
                family = before.get(name) or FamilyText(specs[name], self._encode)
                if found is not family.samples:
                    family.update(found)
                self._families[name] = family
                texts.append(family.text)
        return [*texts, self._end]

    def _page(self, *, compressed: bool) -> Page:
        if not compressed:
            return Page(b"".join(self._texts), self._headers)
        body = self._gzip.compress(_pieces(self._texts))
        return Page(body, self._headers | _ENCODED)


def _pieces(texts: Iterable[bytes]) -> list[bytes]:
    """The texts, with neighbours that are small joined."""
    pieces: list[bytes] = []
    small: list[bytes] = []
    size = 0
    for text in texts:
        if len(text) >= _PIECE_BYTES:
            pieces += [b"".join(small), text]
        else:
            small.append(text)
            size += len(text)
            if size < _JOINED_BYTES:
                continue
            pieces.append(b"".join(small))
        small.clear()
        size = 0
    return [piece for piece in (*pieces, b"".join(small)) if piece]


class Exposition:
    """Samples as the page of metrics."""

    def __init__(self, specs: Iterable[Spec], samples: Samples | None = None) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._samples: Samples = samples or []
        self._formats: dict[str, _Format] = {}

    def take(self, samples: Samples) -> None:
        """Show these samples from now on."""
        self._samples = samples

    def page(self, accept: str = "", accept_encoding: str = "") -> Page:
        """The page for a client with these headers. KeyError: a family is in no catalogue."""
        encode, kind = choose_encoder(accept)
        form = self._formats.pop(kind, None) or _Format(kind, encode)
        # The last one that was used is the last one here.
        self._formats[kind] = form
        if len(self._formats) > _MAX_FORMATS:
            del self._formats[next(iter(self._formats))]
        return form.page(self._specs, self._samples, compressed=gzip_accepted(accept_encoding))
