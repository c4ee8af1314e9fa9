"""What scripts read."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.errors import SourceError
from ksmwatch.option_values import OutputForm
from ksmwatch.top.batch import Batch, run
from ksmwatch.top.view import Grouping, Options
from tests.made_up_host import Documents, document


def output(*documents: dict[str, Any], slept: list[float] | None = None, **batch: Any) -> str:
    out = io.StringIO()
    options = Options(**{k: v for k, v in batch.items() if k in Options.__dataclass_fields__})
    rest = {k: v for k, v in batch.items() if k not in Options.__dataclass_fields__}
    made = Batch(options, **{"times": len(documents), **rest})
    run(Documents(*documents), made, out, ([] if slept is None else slept).append)
    return out.getvalue()


def test_text() -> None:
    lines = output(document(7)).splitlines()
    assert lines[0].startswith("ksmwatch live, kernel 7.3.9-test, made up, 2023-11-1")
    assert lines[4] == ""
    assert lines[5].split()[:4] == ["KIND", "NAME", "PROCS", "MAPPED▼"]
    assert len(lines) == 6 + 7


def test_alerts_in_text() -> None:
    lines = output(document(7, mode_reason="No BTF.")).splitlines()
    assert lines[4] == "! not live: No BTF."


def test_a_host_without_tenants() -> None:
    assert len(output(document(0)).splitlines()) == 4


def test_repetition() -> None:
    slept: list[float] = []
    text = output(document(1), document(1, 1), document(1, 2), slept=slept, seconds=7.0)
    assert text.count("ksmwatch live") == 3
    assert text.count("\n\nksmwatch") == 2
    assert slept == [7.0, 7.0]


def test_json_lines() -> None:
    text = output(document(7), document(7, 1), format=OutputForm.JSON, rates=True)
    first, second = map(json.loads, text.splitlines())
    assert first["schema"] == "ksmwatch.top/1"
    assert first["rows"][0]["merged"] is None
    rates = {row["name"]: row["merged"] for row in second["rows"]}
    assert rates["web"] == 0
    assert rates["memtest"] == 3
    assert second["host"]["mappings"] == document(7, 1)["host"]["mappings"]
    assert second["alerts"] == []


def test_json_of_processes_names_them_for_ever() -> None:
    (line,) = output(document(1), format=OutputForm.JSON, grouping=Grouping.PROCESS).splitlines()
    (row,) = json.loads(line)["rows"]
    assert (row["pid"], row["start_time"], row["owner"], row["name"]) == (1000, 7000, "web", "kvm")


def test_csv() -> None:
    made = document(3), document(3, 1)
    rows = list(csv.DictReader(io.StringIO(output(*made, format=OutputForm.CSV))))
    assert len(rows) == 6
    assert {row["time"] for row in rows} == {"1700000000.5", "1700000002.5"}
    (row,) = [r for r in rows[:3] if r["name"] == "web"]
    assert row["mapped"] == str(made[0]["processes"][0]["mappings"])
    # A group has no pid, and unknown values are empty.
    assert "pid" not in row
    made[0]["owners"][0]["kernel_lag"] = None
    name = made[0]["owners"][0]["name"]
    rows = list(csv.DictReader(io.StringIO(output(made[0], format=OutputForm.CSV))))
    assert [r["lag"] for r in rows if r["name"] == name] == [""]


@given(st.text(max_size=40), st.sampled_from(OutputForm))
def test_a_hostile_name_breaks_nothing(name: str, form: OutputForm) -> None:
    made = document(2)
    made["processes"][0] |= {"name": name, "comm": name}
    made["processes"][0]["owner"] |= {"name": name, "id": name}
    text = output(made, format=form, grouping=Grouping.PROCESS)
    assert not any(c in text for c in "\x1b\r\x9b\u2028")
    if form is OutputForm.JSON:
        assert json.loads(text)["rows"]
        assert text.isascii()
    elif form is OutputForm.CSV:
        assert len(list(csv.reader(io.StringIO(text)))) == 3
    else:
        assert len(text.splitlines()) == 8


def test_without_an_answer_there_is_nothing_to_print() -> None:
    with pytest.raises(SourceError, match=r"It is gone\."):
        output(document(1), times=2)
