"""docs/schemas: a JSON Schema of each published document, generated from its type in the code.

mypy compares the types with the code that makes the documents, and tests the schemas with
documents. A key that is not in the type is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from ksmwatch.commands.audit import AuditDocument
from ksmwatch.commands.check import CheckDocument
from ksmwatch.commands.estimate_view import EstimateDocument
from ksmwatch.commands.forecast import ForecastDocument
from ksmwatch.commands.history_view import HistoryFileDocument
from ksmwatch.commands.peers_view import PeersDocument
from ksmwatch.commands.why import WhyDocument
from ksmwatch.schema_marks import Fields, Keys
from ksmwatch.snapshot.document_types import SnapshotDocument
from ksmwatch.top.batch import TopDocument

_Schema = dict[str, Any]
# By the command that prints it.
PUBLISHED: Mapping[str, type] = {
    "snapshot": SnapshotDocument,
    "forecast": ForecastDocument,
    "top": TopDocument,
    "peers": PeersDocument,
    "estimate": EstimateDocument,
    "history": HistoryFileDocument,
    "why": WhyDocument,
    "check": CheckDocument,
    "audit": AuditDocument,
}
_PLAIN = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
}


def text(kind: type) -> str:
    """The schema of a document, as a file has it."""
    return json.dumps(schema(kind), indent=1) + "\n"


def schema(kind: type) -> _Schema:
    (name,) = get_args(get_type_hints(kind)["schema"])
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name}
    return {**found, **_of(kind)}


def _of(kind: Any) -> _Schema:
    """The schema of any type in a document."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if is_typeddict(kind):
        return _typed_dict(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    return _composed(get_origin(kind), get_args(kind))


def _composed(origin: Any, arguments: tuple[Any, ...]) -> _Schema:
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is Annotated:
        return _marked(*arguments)
    if origin in (Union, UnionType):
        return _any_of([_of(each) for each in arguments])
    if origin in (list, tuple, frozenset, Sequence):
        return {"type": "array", "items": _of(arguments[0])}
    if origin in (dict, Mapping) and arguments[0] is str:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    raise TypeError(f"No schema is known of {origin} of {arguments}.")


def _marked(kind: Any, mark: object) -> _Schema:
    if isinstance(mark, Keys):
        _, of_values = get_args(kind)
        properties = dict.fromkeys(mark.names, of_values)
        return _object(properties, mark.names if mark.all else ())
    assert isinstance(mark, Fields)
    hints = get_type_hints(mark.of, include_extras=True)
    return _object(hints, list(hints))


def _typed_dict(kind: Any) -> _Schema:
    hints = get_type_hints(kind, include_extras=True)
    optional = {
        name: get_args(of)[0] for name, of in hints.items() if get_origin(of) is NotRequired
    }
    return _object({**hints, **optional}, [name for name in hints if name not in optional])


def _object(properties: Mapping[str, Any], required: Sequence[str]) -> _Schema:
    return {
        "type": "object",
        "properties": {name: _of(kind) for name, kind in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _any_of(kinds: Sequence[_Schema]) -> _Schema:
    if all(kind.keys() == {"type"} for kind in kinds):
        return {"type": [kind["type"] for kind in kinds]}
    return {"anyOf": list(kinds)}
