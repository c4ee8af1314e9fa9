"""Runs a part of the kernel tests on every kernel of Debian's, and records the results.

`python -m tests.kernel.everywhere [--arch ARCH] [--append WORDS] [KERNEL...]`. The record,
everywhere.json, is the source of a table in docs/kernels.md (`make docs`). A kernel that is not run
keeps its row. Exit status 1 if a test failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.guests import ROOT, Guest, watched

RECORD = Path(__file__).with_name("everywhere.json")
FLAVOURS = {"amd64": ("", "-rt", "-cloud"), "arm64": ("", "-16k")}
LIVE = ("test_lifecycle", "test_leftovers", "test_survival", "test_callers", "test_long_fuzz")
# Where the plan takes kprobes because of PREEMPT_RT: since 6.7, see docs/design.md.
REALTIME = ("test_pressure",)
POLLED = ("test_polling",)


@dataclass(frozen=True)
class Row:
    """The results on one kernel. `tests`: by file, (passed, failed)."""

    name: str
    release: str
    # fentry, kprobe, or poll; of live counts how departures in a migration are seen.
    hooks: str
    stand_ins: tuple[str, ...]
    tests: Mapping[str, tuple[int, int]]
    # By event: how it is seen, and in which function. Empty of polled counts.
    plan: Mapping[str, str] = field(default_factory=dict)
    # To the kernel's command line.
    append: str = ""


def results(junit: str) -> dict[str, tuple[int, int]]:
    """Passed and failed by file, of pytest's report."""
    found: dict[str, tuple[int, int]] = {}
    for case in ET.fromstring(junit).iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2]
        passed, failed = found.get(name, (0, 0))
        # There are no skips in these tests; one would not have passed.
        bad = len(case) > 0 and any(child.tag != "system-out" for child in case)
        found[name] = (passed + (not bad), failed + bad)
    return found


def row_of(name: str, release: str, check: Mapping[str, Any], junit: str) -> Row:
    """The results that a guest has left."""
    probes = {probe["event"]: probe["mechanism"] for probe in check["probes"]}
    hooks = probes.get("rmap_remove", "poll") if check["live"] else "poll"
    stand_ins = tuple(event for event in probes if event == "moves_away")
    plan = {each["event"]: f"{each['mechanism']} `{each['symbol']}`" for each in check["probes"]}
    return Row(name, release, hooks, stand_ins, results(junit), plan if check["live"] else {})


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of Markdown."""
    files = [name for name in (*LIVE, *REALTIME, *POLLED) if any(name in row.tests for row in rows)]
    heads = [name.removeprefix("test_").replace("_", " ") for name in files]
    lines = [
        f"| kernel | counts | {' | '.join(heads)} |",
        f"|{'---|' * (len(heads) + 2)}",
    ]
    for row in rows:
        counts = {"poll": "polled"}.get(row.hooks, f"live, by {row.hooks}")
        counts += "".join(f", and `{event}`" for event in row.stand_ins)
        cells = [_cell(row.tests.get(name)) for name in files]
        kernel = f"{row.release} `{row.append}`" if row.append else row.release
        lines.append(f"| {kernel} | {counts} | {' | '.join(cells)} |")
    return lines


def _cell(result: tuple[int, int] | None) -> str:
    if result is None:
        return "not run"
    passed, failed = result
    return f"**{failed} of {passed + failed} failed**" if failed else f"{passed} passed"


def recorded() -> list[Row]:
    """All rows, by kernel."""
    if not RECORD.exists():
        return []
    rows = json.loads(RECORD.read_text())
    return [
        Row(**{**row, "stand_ins": tuple(row["stand_ins"]), "tests": _pairs(row["tests"])})
        for row in rows
    ]


def _pairs(tests: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, int]]:
    return {name: (passed, failed) for name, (passed, failed) in tests.items()}


def keep(row: Row) -> None:
    """Replace the recorded row of that kernel and its words."""
    rows = {(each.name, each.append): each for each in recorded()} | {(row.name, row.append): row}
    ordered = sorted(rows.values(), key=_order)
    RECORD.write_text(json.dumps([asdict(each) for each in ordered], indent=1) + "\n")


def _order(row: Row) -> tuple[object, ...]:
    return [*map(_number, row.name.split("-")[:2])], row.append


def _number(part: str) -> tuple[tuple[int, ...], str]:
    numeric = all(piece.isdigit() for piece in part.split("."))
    return (tuple(map(int, part.split("."))), "") if numeric else ((), part)


def run(name: str, arch: str, append: str) -> Row:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as out:
        words = ("--append", append) if append else ()
        guest = Guest(name, memory="3G", options=("--arch", arch, "--writable", out, *words))
        watched(guest, command(ROOT / ".venv/bin/python", out), partial(print, flush=True))
        texts = [(Path(out) / each).read_text() for each in ("release", "check", "junit")]
    label = name if arch == "amd64" else f"{name}-{arch}"
    row = row_of(label, texts[0].strip(), json.loads(texts[1]), texts[2])
    return replace(row, append=append)


def command(python: Path, out: str) -> list[str]:
    """What the guest runs. It leaves release, check and junit in the directory `out`."""
    # The checkout's path may contain spaces.
    script = (
        'uname -r >"$2/release"; "$1" -m ksmwatch check --json >"$2/check";'
        f' grep -q \'"live": true\' "$2/check" && files="{_paths(LIVE)}" ||'
        f' files="{_paths(POLLED)}";'
        ' grep -q "can preempt it (PREEMPT_RT)" "$2/check"'
        f' && files="$files {_paths(REALTIME)}";'
        ' exec "$1" -m pytest -v -p no:cacheprovider -p tests.deadlines --junitxml="$2/junit"'
        ' -m "not once" $files'
    )
    return ["sh", "-c", script, "sh", str(python), out]


def _paths(files: Sequence[str]) -> str:
    return " ".join(f"tests/kernel/{name}.py" for name in files)


def main(argv: Sequence[str]) -> int:
    """Run and record."""
    sys.path.insert(0, str(ROOT / "tests/vm"))
    from vmharness.naming import SERIES

    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--arch", default="amd64", choices=list(FLAVOURS))
    parse.add_argument("--append", default="", metavar="WORDS", help="to the command line")
    parse.add_argument("kernels", nargs="*", metavar="KERNEL")
    options = parse.parse_args(argv)
    everything = [series + flavour for series in SERIES for flavour in FLAVOURS[options.arch]]
    failed = 0
    for name in options.kernels or everything:
        row = run(name, options.arch, options.append)
        keep(row)
        failed += sum(bad for _, bad in row.tests.values())
    print("\n".join(table(recorded())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
