"""The document of `ksmwatch forecast --json`, from a snapshot document. Pure."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from ksmwatch.owners.owner import OwnerKind
from ksmwatch.snapshot.document_types import NeedDocument, OwnerNeedDocument
from ksmwatch.snapshot.process import Confidence


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


def forecast_document(document: dict[str, Any]) -> ForecastDocument:
    """The keys of a snapshot document that a forecast has."""
    return {
        "schema": "ksmwatch.forecast/1",
        "time": document["time"],
        "page_size": document["page_size"],
        "host": _host(document["host"]),
        "owners": [_owner(owner) for owner in document["owners"]],
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
