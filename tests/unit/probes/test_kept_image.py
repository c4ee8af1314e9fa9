"""The kernel's image, which a daemon leaves to its successor: which is kept, and which is used."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import pytest

from ksmwatch.kernel import bpf_maps, new_maps
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.kernel_image import Image
from ksmwatch.probes import handover, kept_image
from ksmwatch.probes.persistence import Nowhere
from tests.fakes import capable, without


class FakeMap:
    """A map whose value is in a file."""

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        assert key_size == 4
        self.fd = fd
        self._value_size = value_size

    def put(self, key: bytes, value: bytes) -> None:
        assert (key, len(value)) == (bytes(4), self._value_size)
        os.pwrite(self.fd, value, 0)

    def get(self, key: bytes) -> bytes:
        assert key == bytes(4)
        return os.pread(self.fd, self._value_size, 0)


class Keep(Nowhere):
    """Keeps descriptors in this process."""

    works = True

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def load(self) -> dict[str, int]:
        return {name: os.dup(fd) for name, fd in self.kept.items()}

    def open(self, name: str) -> int | None:
        return os.dup(self.kept[name]) if name in self.kept else None

    def store(self, name: str, fd: int) -> None:
        self.kept[name] = os.dup(fd)

    def clear(self) -> None:
        self.kept.clear()


@pytest.fixture(autouse=True)
def maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that are files."""

    def array(name: str, value_size: int) -> FakeMap:
        fd = os.memfd_create(name)
        os.truncate(fd, value_size)
        return FakeMap(fd, 4, value_size)

    monkeypatch.setattr(new_maps, "array", array)
    monkeypatch.setattr(bpf_maps, "Map", FakeMap)
    monkeypatch.setattr(bpf_maps, "value_size", lambda fd: os.fstat(fd).st_size)


def proven(**changes: Any) -> Facts:
    """A host of which everything is known."""
    return without(**{"calls": {"a b": True}, "calls_error": None, **changes})


def kept(facts: Facts) -> Keep:
    """Where a daemon with these facts has kept them."""
    keep = Keep()
    kept_image.save(facts, keep)
    return keep


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_successor_finds_what_was_kept() -> None:
    keep = kept(proven())
    before = open_descriptors()
    assert kept_image.load(keep) == Image.of(proven())
    assert open_descriptors() == before


def test_where_nothing_was_kept_nothing_is_found(warnings: list[dict[str, Any]]) -> None:
    assert kept_image.load(Keep()) is None
    assert warnings == []


def test_nothing_is_kept_nowhere() -> None:
    keep = Keep()
    keep.works = False
    kept_image.save(proven(), keep)
    assert keep.kept == {}


@pytest.mark.parametrize(
    "missing",
    [
        {"kallsyms_error": "Operation not permitted"},
        {"calls_error": "Cannot allocate memory"},
        {"btf_error": "Too many open files"},
        # Where the kernel hides its memory, it says so of no call.
        {"calls": {}},
    ],
    ids=lambda missing: next(iter(missing)),
)
def test_what_could_not_be_read_is_read_again_by_a_successor(missing: dict[str, Any]) -> None:
    assert kept(proven(**missing)).kept == {}


def test_a_full_store_does_not_end_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Keep, name: str, fd: int) -> None:
        raise OSError(28, "the descriptor store is full")

    monkeypatch.setattr(Keep, "store", full)
    before = open_descriptors()
    kept_image.save(proven(), Keep())
    assert open_descriptors() == before


def test_an_image_that_other_code_has_read_is_not_used(
    monkeypatch: pytest.MonkeyPatch, warnings: list[dict[str, Any]]
) -> None:
    keep = kept(proven())
    monkeypatch.setattr(kept_image, "_READERS", ("btf",))
    assert kept_image.load(keep) is None
    assert not kept_image.is_current(keep.open(kept_image.NAME))
    # That is what an upgrade does.
    assert warnings == []


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_image_is_not_used(number: int, warnings: list[dict[str, Any]]) -> None:
    keep = kept(proven())
    fd = keep.kept[kept_image.NAME]
    document = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    damaged: tuple[object, ...] = (
        "",
        {"readers": document["readers"]},
        [document],
        {**document, "image": {**document["image"], "more": 1}},
    )
    text = json.dumps(damaged[number]).encode() if number else b"\0" * 9
    os.truncate(fd, len(text))
    os.pwrite(fd, text, 0)
    before = open_descriptors()
    assert kept_image.load(keep) is None
    assert [list(line) for line in warnings] == [["why"]]
    assert not kept_image.is_current(keep.open(kept_image.NAME))
    assert open_descriptors() == before


# ---- as a part of what is handed over ----


@pytest.fixture
def matching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps and programs that fit; what they are is not looked at here."""
    monkeypatch.setattr(handover, "_match", lambda *_: "kept")


@pytest.mark.usefixtures("matching")
def test_who_adopts_leaves_a_current_image_as_it_is() -> None:
    keep = kept(proven())
    image = keep.kept[kept_image.NAME]
    keep.store("map-accounts", image)
    before = open_descriptors()
    assert handover.load(proven(), None, keep) == "kept"  # type: ignore[arg-type, comparison-overlap]
    assert keep.kept[kept_image.NAME] == image
    # The account map is the caller's.
    assert open_descriptors() == before + 1


@pytest.mark.usefixtures("matching")
def test_who_adopts_keeps_an_image_if_the_predecessor_had_none_of_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep = kept(proven())
    keep.store("map-accounts", keep.kept[kept_image.NAME])
    monkeypatch.setattr(kept_image, "_READERS", ("btf",))
    now = proven(calls={"a b": True, "a c": True})
    handover.load(now, None, keep)  # type: ignore[arg-type]
    assert kept_image.load(keep) == Image.of(now)


def test_an_image_alone_is_nothing_to_adopt() -> None:
    assert handover.load(proven(), None, kept(proven())) is None  # type: ignore[arg-type]


def test_an_image_says_the_same_as_the_facts() -> None:
    facts = capable()
    image = Image.from_json(json.loads(json.dumps(Image.of(facts).to_json())))
    assert dataclasses.replace(facts, **image._asdict()) == facts
