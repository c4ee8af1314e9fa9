"""The members that BPF programs read are those whose places ksmwatch looks up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ksmwatch.layout import MEMBERS

BPF = Path(__file__).parents[2] / "bpf"
NAMES = {member.name for member in MEMBERS}

_DEFINE = re.compile(
    r"^#define OFF_(\w+) offsetof\(struct (\w+), (\w+)\)$",
    re.MULTILINE,
)
_DIRECT = re.compile(r"\bOFF_(\w+)")
# The pointer may be in parentheses, or be the result of another FIELD.
_FIELD = re.compile(r"(?=\bFIELD\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*,\s*(\w+)\))")


def used(source: str) -> set[str]:
    """Members that C code reads, by name; definitions are no use."""
    code = _DEFINE.sub("", source)
    code = re.sub(r"^#define FIELD\(.*$|^#ifn?def .*$", "", code, flags=re.MULTILINE)
    return {*_DIRECT.findall(code), *_FIELD.findall(code)}


def headers() -> list[tuple[str, str, str]]:
    """(name, struct, member) of each offset that layout.h takes from kernel headers."""
    return _DEFINE.findall((BPF / "layout.h").read_text())


def test_uses_are_found_in_every_spelling() -> None:
    source = """
#define OFF_a_b offsetof(struct a, b)
#ifdef OFF_c_d
#define FIELD(pointer, member) read_u64((pointer) + OFF_##member)
    x = FIELD(FIELD(get(), e_f), g_h) + FIELD(y - OFF_i_j, k_l);
    open(mm, FIELD(mm, m_n), 0, other);
"""
    assert used(source) == {"e_f", "g_h", "i_j", "k_l", "m_n"}


def test_every_member_that_is_read_is_looked_up_and_no_other() -> None:
    sources = sorted(BPF.glob("*.[ch]"))
    assert {"accounts.c", "family.c", "hooks.c", "layout.h"} <= {path.name for path in sources}
    assert set[str]().union(*(used(path.read_text()) for path in sources)) == NAMES


def test_kernel_headers_have_a_place_for_every_member() -> None:
    assert {name for name, _, _ in headers()} == NAMES


@pytest.mark.parametrize(("name", "struct", "member"), headers())
def test_headers_and_btf_are_asked_for_the_same_places(name: str, struct: str, member: str) -> None:
    (places,) = (m.places for m in MEMBERS if m.name == name)
    assert (struct, member) in places


def test_no_name_is_listed_twice() -> None:
    assert len(NAMES) == len(MEMBERS)


def test_folios_are_preferred_to_pages() -> None:
    (mapping,) = (m for m in MEMBERS if m.name == "page_mapping")
    assert mapping.places == (("folio", "mapping"), ("page", "mapping"))
    assert mapping.required
