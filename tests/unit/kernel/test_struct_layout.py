"""Where struct members are looked for: by BTF and by kernel headers alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ksmwatch.kernel.struct_layout import MEMBERS

HEADER = Path(__file__).resolve().parents[3] / "bpf/layout.h"
PLACES = {member.name: member.places for member in MEMBERS}


def headers() -> list[tuple[str, str, str]]:
    """(name, struct, member) of each offset that layout.h takes from kernel headers."""
    pattern = r"^#define OFF_(\w+) offsetof\(struct (\w+), (\w+)\)$"
    return re.findall(pattern, HEADER.read_text(), re.MULTILINE)


def test_every_member_has_its_place_in_the_headers() -> None:
    assert {name for name, _, _ in headers()} == set(PLACES)


@pytest.mark.parametrize(("name", "struct", "member"), headers())
def test_headers_and_btf_are_asked_for_the_same_places(name: str, struct: str, member: str) -> None:
    assert (struct, member) in PLACES[name]


def test_no_name_is_listed_twice() -> None:
    assert len(PLACES) == len(MEMBERS)


def test_folios_are_preferred_to_pages() -> None:
    assert PLACES["page_mapping"] == (("folio", "mapping"), ("page", "mapping"))
    assert PLACES["page__mapcount"] == (("folio", "_mapcount"), ("page", "_mapcount"))
