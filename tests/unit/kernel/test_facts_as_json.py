"""Facts travel as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.kernel.facts import CAPABILITIES, Facts
from tests.fakes import KERNELS, recorded


@pytest.mark.parametrize("kernel", KERNELS)
def test_facts_survive_json(kernel: str) -> None:
    original = recorded(kernel).with_refusal("merge", "fentry", "try_to_merge_one_page", "no")
    assert Facts.from_json(json.loads(json.dumps(original.to_json()))) == original


@given(
    symbols=st.dictionaries(st.text(), st.integers(0, 9)),
    prototypes=st.dictionaries(st.text(), st.lists(st.text()).map(tuple)),
    capabilities=st.frozensets(st.sampled_from(sorted(CAPABILITIES))),
    error=st.none() | st.text(),
)
def test_any_facts_survive_json(
    symbols: dict[str, int],
    prototypes: dict[str, tuple[str, ...]],
    capabilities: frozenset[str],
    error: str | None,
) -> None:
    original = dataclasses.replace(
        recorded("6.1"),
        symbols=symbols,
        prototypes=prototypes,
        capabilities=capabilities,
        kallsyms_error=error,
    )
    assert Facts.from_json(json.loads(json.dumps(original.to_json()))) == original


def test_json_is_the_same_for_equal_facts() -> None:
    document = recorded("7.3").to_json()
    assert document["capabilities"] == sorted(CAPABILITIES)


def test_a_refusal_leaves_the_host_as_it_was() -> None:
    before = recorded("7.3")
    after = before.with_refusal("merge", "fentry", "f", "a").with_refusal(
        "enter", "kprobe", "g", "b"
    )
    assert before.refused == {}
    assert after.refused == {"merge fentry f": "a", "enter kprobe g": "b"}
