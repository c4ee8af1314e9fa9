"""Who shares with whom, as a matrix, a list or JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Annotated, Any, Final, Literal, TypedDict

from ksmwatch.commands.text_tables import table
from ksmwatch.diagnose.sharers import Cost, Pair, Party, Result, Share
from ksmwatch.schema_marks import Fields
from ksmwatch.terminal_text import clean, fit

SCHEMA: Final = "ksmwatch.peers/1"

# Widths of the matrix.
_NUMBER, _NAME, _KIND, _COLUMN = 3, 20, 9, 9
_MARK = "!"
# PTEs of a page that has lost all other sharers.
_ALONE = 1
# Of lines of text above the table.
_WIDTH = 80
_LEGEND = f"{_MARK} crosses a border between tenants"


def _head(result: Result) -> list[str]:
    cost = result.cost
    mapped = f"mapped {result.mappings} times, live count {result.counted}"
    read = f"{cost.pages} entries of {cost.processes} processes by {result.by}"
    return [
        f"KSM pages   {result.distinct} ({result.confidence}), {mapped}",
        *_sharers(result),
        f"cost        {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU: {read}",
        *(f"because     {clean(doubt)}" for doubt in result.doubts),
        "",
    ]


def _sharers(result: Result) -> list[str]:
    """How many pages have how many PTEs."""
    parts = [
        f"{'' if up_to <= _ALONE * 2 else 'up to '}{up_to} PTEs: {pages}"
        if up_to > _ALONE
        else f"1 PTE, which saves nothing: {pages}"
        for up_to, pages in result.sharers.items()
    ]
    text = "; ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts) or "nobody"
    lines = wrap(text, _WIDTH, initial_indent="mapped by   ", subsequent_indent=" " * 12)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _name(party: Party) -> str:
    return party.name if party.pid is None else f"{party.pid} {party.name}"


def matrix(result: Result, width: int | None = None) -> str:
    """Owners against owners, as many of the largest as fit; None: all."""
    shares = [share for share in result.shares if share.pages]
    if not shares:
        return "\n".join([*_head(result), "No owner has KSM pages."])
    shown = shares if width is None else shares[: _room(width)]
    heads = [str(at) for at in range(1, len(shown) + 1)]
    lines = [_row("#", "OWNER", "KIND", "PAGES", heads)]
    cells = _cells(shown, result.pairs)
    for at, share in enumerate(shown):
        row = ["-" if other == at else cells.get((at, other), "0") for other in range(len(shown))]
        party = share.party
        lines.append(_row(heads[at], _name(party), party.kind, str(share.pages), row))
    return "\n".join([*_head(result), *lines, "", *_foot(result, len(shares) - len(shown))])


def _room(width: int) -> int:
    fixed = _NUMBER + 1 + _NAME + 1 + _KIND + 1 + _COLUMN
    return max(2, (width - fixed) // _COLUMN)


def _row(number: str, name: str, kind: str, pages: str, cells: Sequence[str]) -> str:
    """Amounts are aligned, with or without a mark behind."""
    fixed = f"{number:>{_NUMBER}} {fit(name, _NAME)} {fit(kind, _KIND)} {pages:>{_COLUMN}}"
    marked = (cell if cell.endswith(_MARK) else f"{cell} " for cell in cells)
    return (fixed + "".join(f"{cell:>{_COLUMN}}" for cell in marked)).rstrip()


def _cells(shown: Sequence[Share], pairs: Sequence[Pair]) -> dict[tuple[int, int], str]:
    place = {id(share): at for at, share in enumerate(shown)}
    cells = {}
    for pair in pairs:
        a, b = place.get(id(pair.first)), place.get(id(pair.second))
        if a is not None and b is not None:
            cells[a, b] = cells[b, a] = f"{pair.pages}{_MARK if pair.crosses else ''}"
    return cells


def _foot(result: Result, hidden: int) -> list[str]:
    crossing = sum(pair.crosses for pair in result.pairs)
    lines = [f"{_LEGEND}: {crossing} of {len(result.pairs)} pairs that have pages in common."]
    if hidden:
        lines.append(f"{hidden} more owners have fewer pages; --json lists all.")
    return lines


def listing(result: Result, subject: Party) -> str:
    """The parties with which one party has pages in common."""
    mine, common = result.of(subject)
    rows = [
        (
            share.party.name,
            share.party.kind,
            share.party.id,
            pair.pages,
            "crossed" if pair.crosses else "same tenant",
        )
        for share, pair in common
    ]
    who = f"{subject.kind} {clean(_name(subject))}"
    lines = [*_head(result)]
    lines[-1:] = [f"of these    {mine.pages} are mapped by {who}, {mine.alone} by nobody else", ""]
    head = ("PEER", "KIND", "ID", "PAGES", "BORDER")
    return "\n".join([*lines, table(head, rows) if rows else "It shares no KSM pages."])


class _Identity(TypedDict):
    kind: str
    id: str
    pid: int | None


class _Owner(_Identity):
    name: str
    tenant: str
    mappings: int
    counted_mappings: int
    pages: int
    pages_alone: int


class _Sharers(TypedDict):
    up_to: int
    pages: int


class _Pair(TypedDict):
    owners: list[_Identity]
    pages: int
    crosses_border: bool


class PeersDocument(TypedDict):
    """The output of `--json`."""

    schema: Literal["ksmwatch.peers/1"]
    subject: _Identity | None
    confidence: Literal["exact", "estimated"]
    reasons: list[str]
    told_by: str
    pages: int
    pages_by_sharers: list[_Sharers]
    mappings: int
    counted_mappings: int
    cost: Annotated[dict[str, Any], Fields(Cost)]
    owners: list[_Owner]
    pairs: list[_Pair]


def document(result: Result, subject: Party | None) -> PeersDocument:
    """The same as JSON, with every pair, or with the pairs of one party."""
    pairs = result.pairs if subject is None else [pair for _, pair in result.of(subject)[1]]
    return {
        "schema": SCHEMA,
        "subject": None if subject is None else _identity(subject),
        "confidence": result.confidence,
        "reasons": list(result.doubts),
        "told_by": result.by,
        "pages": result.distinct,
        "pages_by_sharers": [
            {"up_to": up_to, "pages": pages} for up_to, pages in result.sharers.items()
        ],
        "mappings": result.mappings,
        "counted_mappings": result.counted,
        "cost": dict(vars(result.cost)),
        "owners": [_share(share) for share in result.shares],
        "pairs": [
            {
                "owners": [_identity(share.party) for share in (pair.first, pair.second)],
                "pages": pair.pages,
                "crosses_border": pair.crosses,
            }
            for pair in pairs
        ],
    }


def _identity(party: Party) -> _Identity:
    return {"kind": party.kind, "id": party.id, "pid": party.pid}


def _share(share: Share) -> _Owner:
    return {
        **_identity(share.party),
        "name": share.party.name,
        "tenant": share.party.tenant,
        "mappings": share.mappings,
        "counted_mappings": share.party.counted,
        "pages": share.pages,
        "pages_alone": share.alone,
    }
