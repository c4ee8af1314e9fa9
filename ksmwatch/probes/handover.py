"""Saves maps, programs and attachments for a successor, and adopts a predecessor's.

The manifest, itself one of the maps, says what the programs were made from. A successor adopts
them only if it would make the same programs; otherwise it begins anew and takes a baseline.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ksmwatch.config import Config
from ksmwatch.digests import blake2b
from ksmwatch.kernel import bpf_maps
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes import kept_image
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.configured_plan import plan_for
from ksmwatch.probes.loader import Loaded, LoadedMap, ProgramOrigin
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.persistence import Keep
from ksmwatch.probes.plan import Plan
from ksmwatch.probes.sources import HEADERS, SOURCES, bpf_directory

_MANIFEST = "manifests"
_KEY = bytes(4)


class Kept(NamedTuple):
    """What an earlier daemon has left, by its manifest."""

    loaded: Loaded
    links: dict[str, int]
    plan: Plan


def digest(flags: list[str]) -> str:
    """A digest of everything from which the programs are made."""
    made = blake2b("\0".join(flags).encode())
    for name in (*SOURCES, *HEADERS):
        made.update((bpf_directory() / name).read_bytes())
    return made.hexdigest()


def save(loaded: Loaded, flags: list[str], facts: Facts, keep: Keep) -> None:
    """Keep maps and programs, with their manifest. Raises OSError."""
    maps = {
        name: {**each._asdict(), "fields": [field._asdict() for field in each.fields]}
        for name, each in loaded.maps.items()
    }
    document = {"digest": digest(flags), "refused": dict(facts.refused), "maps": maps}
    manifest = loaded.maps[_MANIFEST]
    text = json.dumps(document).encode()
    bpf_maps.Map(manifest.fd, 4, manifest.value_size).put(
        _KEY, text.ljust(manifest.value_size, b"\0")
    )
    for name, each in loaded.maps.items():
        keep.store(f"map-{name}", each.fd)
    for name, fd in loaded.programs.items():
        keep.store(f"prog-{name}", fd)
    kept_image.save(facts, keep)


def load(facts: Facts, settings: Config, keep: Keep) -> Kept | None:
    """What was kept, if this daemon would make the same; otherwise it is dropped."""
    descriptors = keep.load()
    image_is_current = kept_image.is_current(descriptors.pop(kept_image.NAME, None))
    if not descriptors:
        return None
    kept = _match(descriptors, facts, settings)
    if kept is None:
        # In this order nothing runs any more when it is over.
        keep.clear()
        for fd in descriptors.values():
            os.close(fd)
    elif not image_is_current:
        kept_image.save(facts, keep)
    return kept


def _match(descriptors: Mapping[str, int], facts: Facts, settings: Config) -> Kept | None:
    document = _read_manifest(descriptors.get(f"map-{_MANIFEST}"))
    if document is None:
        return None
    for key, why in document["refused"].items():
        event, mechanism, symbol = key.split(" ")
        facts = facts.with_refusal(event, mechanism, symbol, why)
    plan = plan_for(facts, settings)
    if plan.obstacle is not None:
        return None
    if digest(compile_flags(plan, facts, settings.accounts_max)) != document["digest"]:
        return None
    programs = {program.name for program in plan.kept}
    wanted = {f"map-{name}" for name in document["maps"]} | {f"prog-{name}" for name in programs}
    if not wanted <= descriptors.keys():
        return None
    maps = {
        name: LoadedMap(
            descriptors[f"map-{name}"],
            each["key_size"],
            each["value_size"],
            tuple(Field(**field) for field in each["fields"]),
        )
        for name, each in document["maps"].items()
    }
    links = {
        name.removeprefix("link-"): fd
        for name, fd in descriptors.items()
        if name.startswith("link-")
    }
    loaded = {name: descriptors[f"prog-{name}"] for name in programs}
    return Kept(Loaded(maps, loaded, origin=ProgramOrigin.ADOPTED), links, plan)


def _read_manifest(fd: int | None) -> dict[str, Any] | None:
    if fd is None:
        return None
    try:
        data = bpf_maps.Map(fd, 4, bpf_maps.value_size(fd)).get(_KEY)
        document: dict[str, Any] = json.loads((data or b"").rstrip(b"\0"))
    except (OSError, ValueError):
        return None
    return document
