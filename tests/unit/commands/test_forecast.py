"""`ksmwatch forecast`, as text and JSON."""

from __future__ import annotations

import pytest

from ksmwatch.commands import forecast as forecast_command
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from tests.made_up import nothing, numbers, snapshot


def forecast(made: Snapshot) -> list[str]:
    return forecast_command.text(to_document(made)).splitlines()


def test_a_forecast() -> None:
    assert forecast(snapshot()) == [
        "run=2 needs   0.3 to 0.4 MiB (exact): fits",
        "available     1000.0 MiB",
        "",
        "OWNER           KIND  AT LEAST  AT MOST  LEFT  LIMITED BY                    VERDICT",
        "tenant.service  unit       0.3      0.4   1.0  /system.slice/tenant.service  fits",
    ]


def test_a_forecast_of_what_is_not_known() -> None:
    made = snapshot(numbers=numbers(ksm={}, meminfo={}), rooms={})
    lines = forecast(made)
    assert lines[:2] == [
        "run=2 needs   - to 0.4 MiB (exact): unknown",
        "available     - MiB",
    ]
    assert " ".join(lines[-1].split()) == "tenant.service unit - 0.4 - host unknown"


def test_a_forecast_of_a_kernel_without_ksm() -> None:
    assert forecast(nothing())[0] == "run=2 needs   - to 0.0 MiB (exact): fits"


@pytest.mark.parametrize(
    ("available", "words"), [(399, "may not fit"), (319, "does not fit"), (400, "fits")]
)
def test_verdicts_in_words(available: int, words: str) -> None:
    made = snapshot(numbers=numbers(meminfo={"MemAvailable": available}))
    assert forecast(made)[0].endswith(f": {words}")


def test_a_forecast_as_json_has_keys_of_the_snapshot() -> None:
    document = to_document(snapshot())
    found = forecast_command.document_of(document)
    assert found["schema"] == "ksmwatch.forecast/1"
    assert found["host"]["unmerge"] == document["host"]["unmerge"]
    assert [owner["unmerge"] for owner in found["owners"]] == [document["owners"][0]["unmerge"]]
