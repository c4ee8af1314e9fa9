"""``ksmwatch forecast``: what unmerging would need, out of a snapshot document. Pure."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from ksmwatch.commands.text_tables import mib, mib_or_dash, table
from ksmwatch.owners.owner import OwnerKind
from ksmwatch.snapshot.document_types import NeedDocument, OwnerNeedDocument
from ksmwatch.snapshot.process import Confidence

_VERDICTS = {
    "fits": "fits",
    "uncertain": "may not fit",
    "too_little": "does not fit",
    "unknown": "unknown",
}


class _Host(TypedDict):
    mappings: int
    confidence: Confidence
    reason: str | None
    unmerge: NeedDocument


class _Owner(TypedDict):
    kind: OwnerKind
    name: str
    id: str
    mappings: int
    unmerge: OwnerNeedDocument


class ForecastDocument(TypedDict):
    schema: Literal["ksmwatch.forecast/1"]
    time: float
    page_size: int
    host: _Host
    owners: list[_Owner]


def document_of(snapshot: dict[str, Any]) -> ForecastDocument:
    """The keys of a snapshot document that a forecast has."""
    return {
        "schema": "ksmwatch.forecast/1",
        "time": snapshot["time"],
        "page_size": snapshot["page_size"],
        "host": _host(snapshot["host"]),
        "owners": [_owner(owner) for owner in snapshot["owners"]],
    }


def _host(host: dict[str, Any]) -> _Host:
    return {
        "mappings": host["mappings"],
        "confidence": host["confidence"],
        "reason": host["reason"],
        "unmerge": host["unmerge"],
    }


def _owner(owner: dict[str, Any]) -> _Owner:
    return {
        "kind": owner["kind"],
        "name": owner["name"],
        "id": owner["id"],
        "mappings": owner["mappings"],
        "unmerge": owner["unmerge"],
    }


def text(document: dict[str, Any]) -> str:
    """What unmerging would need, from a snapshot document, as text; in MiB."""
    host = document["host"]
    need = host["unmerge"]
    least, most = mib_or_dash(need["at_least_bytes"]), mib(need["at_most_bytes"])
    verdict = _VERDICTS[need["verdict"]]
    lines = [
        f"run=2 needs   {least} to {most} MiB ({host['confidence']}): {verdict}",
        f"available     {mib_or_dash(need['available_bytes'])} MiB",
    ]
    rows = [_row(owner) for owner in document["owners"]]
    if rows:
        head = ("OWNER", "KIND", "AT LEAST", "AT MOST", "LEFT", "LIMITED BY", "VERDICT")
        lines += ["", table(head, rows)]
    return "\n".join(lines)


def _row(owner: dict[str, Any]) -> tuple[object, ...]:
    need = owner["unmerge"]
    limit = need["limit"]
    return (
        owner["name"],
        owner["kind"],
        mib_or_dash(need["at_least_bytes"]),
        mib(need["at_most_bytes"]),
        mib_or_dash(need["available_bytes"] if limit is None else limit["left_bytes"]),
        "host" if limit is None else limit["cgroup"],
        _VERDICTS[need["verdict"]],
    )
