"""What `estimate-textfile` writes for node_exporter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

SCRIPT = Path(__file__).resolve().parents[3] / "deploy/prometheus/estimate-textfile"
SAVED = {
    f"{key}{suffix}": number
    for key, number in (("saved_now", 10), ("would_save", 20), ("would_save_all", 30.5))
    for suffix in ("", "_low", "_high")
}
DOCUMENT = {
    "schema": "ksmwatch.estimate/1",
    "confidence": "exact",
    "page_size": 4096,
    "host": SAVED,
    "owners": [{**SAVED, "kind": "vm", "id": 'a"b\\c', "name": "web"}],
    "zero_pages": 7,
    "across_tenants": 3,
}


def written(tmp_path: Path, document: object) -> dict[tuple[str, ...], float]:
    """Values by name and values of labels."""
    (tmp_path / "answer").write_text(json.dumps(document))
    command = tmp_path / "ksmwatch"
    command.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/words\ncat {tmp_path}/answer\n')
    command.chmod(0o755)
    path = tmp_path / "estimate.prom"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([SCRIPT, path, "--precision=5"], check=True, env=environment)
    assert (tmp_path / "words").read_text() == "estimate --json --precision=5\n"
    return {
        (sample.name.removeprefix("ksmwatch_estimate_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_amounts_are_bytes(tmp_path: Path) -> None:
    found = written(tmp_path, DOCUMENT)
    assert found.pop(("timestamp_seconds",)) > 1e9
    expected: dict[tuple[str, ...], float] = {
        ("saved_bytes",): 10 * 4096,
        **{("would_save_bytes", bound): 20 * 4096 for bound in ("estimate", "low", "high")},
        **{("would_save_all_bytes", bound): 30.5 * 4096 for bound in ("estimate", "low", "high")},
        ("zero_bytes",): 7 * 4096,
        ("across_tenants_bytes",): 3 * 4096,
        ("owner_would_save_all_bytes", "vm", 'a"b\\c', "web"): 30.5 * 4096,
        ("exact",): 1,
    }
    assert found == expected


@pytest.mark.parametrize("confidence", ["estimated"])
def test_what_is_unknown_is_absent(tmp_path: Path, confidence: str) -> None:
    unknown = {**DOCUMENT, "confidence": confidence, "host": dict.fromkeys(SAVED), "owners": []}
    found = written(tmp_path, unknown)
    assert not [name for name, *_ in found if "sav" in name]
    assert found["exact",] == 0
