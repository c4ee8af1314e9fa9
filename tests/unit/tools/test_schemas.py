"""Published documents are as docs/schemas say, and a key that is not in these is refused."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ksmwatch.commands.forecast import document_of
from ksmwatch.export.samples import Series
from ksmwatch.option_values import OutputForm
from ksmwatch.snapshot.document import to_document, to_json
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Confidence
from ksmwatch.top import batch, scrape
from ksmwatch.top.batch import Batch
from ksmwatch.top.view import Grouping, Options
from tests.exposed import exposed
from tests.fakes import KERNELS, recorded
from tests.made_up import nothing, numbers, poll, process, snapshot
from tests.made_up_host import Documents, document
from tests.published import SCHEMAS, faults
from tools import schemas

SNAPSHOTS = [
    snapshot(),
    snapshot(unnamed=5, events=None, doubt="3 events", rooms={}),
    snapshot(processes=(process(stray=None, read_at=None, kernel_merging_pages=None),)),
    snapshot(numbers=numbers(ksm={"run": 1}, meminfo={}, failures=("vmstat",), ksmd_cpu=None)),
    snapshot(processes=(process(), process(pid=43, confidence=Confidence.ESTIMATED))),
    poll(),
    nothing(),
]


@pytest.mark.parametrize("made", SNAPSHOTS)
def test_snapshots(made: Snapshot) -> None:
    assert faults(to_document(made)) == []
    assert faults(json.loads(to_json(made))) == []


@pytest.mark.parametrize("made", SNAPSHOTS)
def test_forecasts(made: Snapshot) -> None:
    assert faults(json.loads(json.dumps(document_of(to_document(made))))) == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_facts_of_real_kernels(kernel: str) -> None:
    described = schemas.schema(schemas.PUBLISHED["check"])["properties"]["facts"]
    facts = json.loads(json.dumps(recorded(kernel).to_json()))
    assert list(Draft202012Validator(described).iter_errors(facts)) == []


def printed(options: Options, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    """What `top --json` prints of these."""
    out = io.StringIO()
    how = Batch(options, OutputForm.JSON, times=len(documents))
    batch.run(Documents(*documents), how, out, sleep=lambda seconds: None)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("grouping", Grouping)
@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("rates", [False, True])
def test_top(grouping: Grouping, *, tree: bool, rates: bool) -> None:
    options = Options(grouping=grouping, tree=tree, rates=rates)
    found = printed(options, document(14, 0), document(14, 1))
    assert len(found) == 2
    for each in found:
        assert each["rows"]
        assert faults(each) == []


@pytest.mark.parametrize("made", SNAPSHOTS)
@pytest.mark.parametrize("grouping", [Grouping.OWNER, Grouping.PROCESS])
def test_top_of_another_host(made: Snapshot, grouping: Grouping) -> None:
    scraped = scrape.parse(exposed(made, Series(processes=True)), "there")
    (found,) = printed(Options(grouping=grouping), scraped)
    assert faults(found) == []


# ---- the schemas themselves ----


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object that a schema describes, at any depth."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for below in schema.values():
            yield from objects(below)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


def test_every_schema_has_a_file_and_every_file_a_schema() -> None:
    assert {path.stem for path in SCHEMAS.iterdir()} == set(schemas.PUBLISHED)


@pytest.mark.parametrize("name", schemas.PUBLISHED)
def test_a_schema_is_one_and_names_its_document(name: str) -> None:
    made = schemas.schema(schemas.PUBLISHED[name])
    Draft202012Validator.check_schema(made)
    assert made["title"] == f"ksmwatch.{name}/1"


@pytest.mark.parametrize("name", schemas.PUBLISHED)
def test_objects_name_their_keys_or_are_maps(name: str) -> None:
    found = list(objects(schemas.schema(schemas.PUBLISHED[name])))
    assert found
    for each in found:
        # A map of what the kernel or a plan names has a type for all of its values.
        closed = each["additionalProperties"] is False
        assert closed is ("properties" in each)


def places(found: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a document has objects."""
    if isinstance(found, dict):
        yield at
        for key, below in found.items():
            yield from places(below, (*at, key))
    elif isinstance(found, list):
        for place, below in enumerate(found):
            yield from places(below, (*at, place))


def inside(found: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        found = found[step]
    return found


# By the names that the kernel has, or by the numbers of nodes.
OPEN = {
    *(("sources", "ksm"), ("sources", "meminfo"), ("sources", "vmstat")),
    *(("host", "nodes"), ("owners", 0, "nodes"), ("processes", 0, "nodes")),
}


def test_a_new_key_is_refused_wherever_it_is() -> None:
    whole = json.loads(to_json(snapshot()))
    assert set(OPEN) < set(places(whole))
    for place in places(whole):
        changed = copy.deepcopy(whole)
        inside(changed, place)["new"] = 1
        assert bool(faults(changed)) is (place not in OPEN), place


def test_a_key_that_is_missing_is_noticed() -> None:
    whole = json.loads(to_json(snapshot()))
    for place in places(whole):
        # By `schema` it is known which one a document has to be.
        for key in inside(whole, place).keys() - {"schema"}:
            changed = copy.deepcopy(whole)
            del inside(changed, place)[key]
            # Movements are counted by reason, and by none if events are not seen.
            optional = place in OPEN or place[-1:] in (("movements",), ("totals",))
            assert bool(faults(changed)) is not optional, (place, key)


def test_a_schema_tells_types_apart() -> None:
    changed = to_document(snapshot())
    changed["asleep"] = 0
    changed["host"]["mappings"] = "100"
    changed["mode"] = "ebpf"
    assert [fault.partition(":")[0] for fault in faults(changed)] == [
        *("$.mode", "$.asleep", "$.host.mappings"),
    ]


def test_a_type_that_no_schema_can_say_is_an_error() -> None:
    with pytest.raises(TypeError, match="No schema"):
        schemas._of(set[str])
