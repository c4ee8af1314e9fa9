"""The documentation of outputs agrees with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.snapshot import document
from tests import made_up
from tools import generate

# The kernel, or records and metrics, name what is below these keys.
_OPEN = {"ksm", "meminfo", "vmstat", "totals", "losses"}


@pytest.mark.parametrize("name", sorted(generate.generate()))
def test_generated_files_are_up_to_date(name: str) -> None:
    written = (generate.DOCS / name).read_text(encoding="utf-8")
    assert written == generate.generate()[name], "run `make docs`"


def test_generator_writes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    generate.main()
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == set(generate.generate())
    head = (tmp_path / "metrics.md").read_text().splitlines()[0]
    assert head == "# Metrics"


def keys(value: Any) -> Iterator[str]:
    """Every key of a document, at any depth."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield key
            if key not in _OPEN:
                yield from keys(below)
    elif isinstance(value, list):
        for each in value:
            yield from keys(each)


def test_every_key_of_the_snapshot_is_documented() -> None:
    text = (generate.DOCS / "snapshot.md").read_text()
    names = {w for code in re.findall(r"`([^`]+)`", text) for w in re.findall(r"\w+", code)}
    found = set(keys(document.to_document(made_up.snapshot())))
    assert {"schema", "start_time", "stray_areas", "unverified", "memory_bytes"} <= found
    assert found - names == set()


def test_the_schema_that_is_documented_is_the_one_that_is_written() -> None:
    assert f"`{document.SCHEMA}`" in (generate.DOCS / "snapshot.md").read_text()
