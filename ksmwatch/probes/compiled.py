"""What the BPF sources are compiled to, as data. Pure.

The compiler makes it, a file can keep it, and the loader takes it from either alike.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ksmwatch.digests import blake2b
from ksmwatch.probes.map_records import Field

# Begins a section of a file; grows with the format.
_MAGIC = "ksmwatch-programs 1"
_KIND = _MAGIC.split(" ", maxsplit=1)[0]


class MapShape(NamedTuple):
    """A map as it is to be created. `kind`: enum bpf_map_type; `fields`: of a record."""

    name: str
    kind: int
    key_size: int
    value_size: int
    entries: int
    flags: int
    fields: tuple[Field, ...] = ()


class Instructions(NamedTuple):
    """Instructions. Where one is about a map, its number is the place of that in the list of maps.

    `functions`: where the functions begin, if one of them is called back.
    """

    words: bytes
    functions: tuple[int, ...] = ()


class Compiled(NamedTuple):
    """Maps, and programs by name."""

    maps: tuple[MapShape, ...]
    programs: Mapping[str, Instructions]


def _shape(shape: MapShape) -> dict[str, Any]:
    return {**shape._asdict(), "fields": [field._asdict() for field in shape.fields]}


def _document(compiled: Compiled) -> dict[str, Any]:
    programs = {
        name: {
            "instructions": base64.b64encode(code.words).decode(),
            "functions": code.functions,
        }
        for name, code in compiled.programs.items()
    }
    return {"maps": [_shape(each) for each in compiled.maps], "programs": programs}


def _from_document(document: Mapping[str, Any]) -> Compiled:
    maps = tuple(
        MapShape(**{**shape, "fields": tuple(Field(**field) for field in shape["fields"])})
        for shape in document["maps"]
    )
    programs = {
        name: Instructions(base64.b64decode(code["instructions"]), tuple(code["functions"]))
        for name, code in document["programs"].items()
    }
    return Compiled(maps, programs)


def encode(key: str, compiled: Compiled) -> bytes:
    """A section of a file. `key`: a word that says for what it serves."""
    body = json.dumps(_document(compiled)).encode()
    digest = blake2b(key.encode() + body, digest_size=16).hexdigest()
    return f"{_MAGIC} {key} {len(body)} {digest}\n".encode() + body


def _sections(data: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Key, digest and body of each section of a file. Raises ValueError."""
    while data:
        line, newline, rest = data.partition(b"\n")
        words = line.decode("ascii", errors="replace").split(" ")
        if words[0] != _KIND:
            raise ValueError("it is damaged, or not a file of ksmwatch")
        if " ".join(words[:2]) != _MAGIC or len(words) != 5:
            raise ValueError("it is from another version of ksmwatch")
        size = int(words[3]) if words[3].isdecimal() else len(rest) + 1
        if not newline or size > len(rest):
            raise ValueError("it is cut off")
        yield words[2], words[4], rest[:size]
        data = rest[size:]


def decode(data: bytes, key: str) -> Compiled | None:
    """What a file has under a key; None if nothing. Raises ValueError with the reason."""
    for each, digest, body in _sections(data):
        if each != key:
            continue
        if blake2b(each.encode() + body, digest_size=16).hexdigest() != digest:
            raise ValueError("it is damaged")
        return _from_document(json.loads(body))
    return None
