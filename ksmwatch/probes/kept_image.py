"""Keeps the kernel's image (`kernel_image`) for a successor, which then need not read it.

It is in a map beside those that are handed over. A map does not outlive its kernel, so what one
says is said of the running kernel. Whoever could write it could write the accounts as well.
"""

from __future__ import annotations

import functools
import json
import os
from contextlib import suppress
from pathlib import Path

from ksmwatch.digests import blake2b
from ksmwatch.kernel import bpf_maps, kernel_image, new_maps
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.kernel_image import Image
from ksmwatch.log import logger
from ksmwatch.probes.persistence import Keep

NAME = "map-image"
_KEY = bytes(4)
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError)
# What decides what an image consists of.
_READERS = ("btf", "callers", "events", "kernel_image", "kernel_text", "struct_layout")


@functools.cache
def _digest(modules: tuple[str, ...]) -> str:
    """Of their sources, which a start compares several times."""
    made = blake2b(digest_size=16)
    for name in modules:
        made.update(Path(kernel_image.__file__).with_name(f"{name}.py").read_bytes())
    return made.hexdigest()


def _readers() -> str:
    """A digest of the code that reads images: another version may look for more."""
    return _digest(_READERS)


def save(facts: Facts, keep: Keep) -> None:
    """Keep the image of a host with these facts, if all of it could be read."""
    image = Image.of(facts)
    if not (keep.works and image.whole):
        return
    text = json.dumps({"readers": _readers(), "image": image.to_json()}).encode()
    # Without it, a successor reads for itself.
    with suppress(OSError):
        made = new_maps.array("image", len(text))
        try:
            made.put(_KEY, text)
            keep.store(NAME, made.fd)
        finally:
            os.close(made.fd)


def load(keep: Keep) -> Image | None:
    """The image that a predecessor has kept, if the same code has read it."""
    try:
        fd = keep.open(NAME)
        return None if fd is None else _taken(fd)
    except _DAMAGED as error:
        logger.warning("the kept facts about the kernel are ignored", extra={"why": repr(error)})
        return None


def is_current(fd: int | None) -> bool:
    """Whether `load` could use this one, which is closed."""
    with suppress(*_DAMAGED):
        return fd is not None and _taken(fd) is not None
    return False


def _taken(fd: int) -> Image | None:
    """What a map has, which is closed. None: other code has written it. Raises _DAMAGED."""
    try:
        document = json.loads(bpf_maps.Map(fd, 4, bpf_maps.value_size(fd)).get(_KEY) or b"")
    finally:
        os.close(fd)
    return Image.from_json(document["image"]) if document["readers"] == _readers() else None
