"""Writes the generated files below docs/: `python -m tools.generate`, or `make docs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ksmwatch import command_line
from ksmwatch.export import fronts
from ksmwatch.export.front import web
from ksmwatch.kernel.events import EVENTS, TRACEPOINTS
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import Wish, choose
from tests.kernel import everywhere
from tools import advice_page, completion, manual, metrics_page, schemas, state_table

_ROOT = Path(__file__).resolve().parents[1]
DOCS = _ROOT / "docs"
_FIXTURES = _ROOT / "tests/fixtures"
_KSM = "root/sys/kernel/mm/ksm"
# Files in /sys/kernel/mm/ksm that some kernels lack, and what needs them.
_FILES = {
    "general_profit": "`ksmwatch_kernel_profit_bytes`",
    "pages_scanned": "`ksmwatch_kernel_pages_scanned_total`",
    "ksm_zero_pages": 'zero pages, `ksmwatch_kernel_pages{file="ksm_zero_pages"}`',
    "smart_scan": "pages that ksmd skips (`ksmwatch why`)",
    "advisor_mode": "an advisor that sets `pages_to_scan` (`ksmwatch why`)",
}
_Row = Callable[[Path, Facts], str]


def _kernels() -> dict[Path, Facts]:
    """Facts of the recorded kernels by directory, in the order of versions."""
    directories = [path.parent for path in _FIXTURES.glob("*/facts.json")]
    directories.sort(key=lambda path: [int(part) for part in path.name.split(".")])
    return {
        path: Facts.from_json(json.loads((path / "facts.json").read_text())) for path in directories
    }


def _probe(event: str, wish: Wish) -> _Row:
    def cell(_: Path, facts: Facts) -> str:
        found = [probe for probe in choose(facts, wish).probes if probe.event == event]
        return f"{found[0].mechanism} `{found[0].symbol}`" if found else "none"

    return cell


def _yes(value: bool) -> str:  # noqa: FBT001 - what it says
    return "yes" if value else "no"


def _table(rows: Mapping[str, _Row]) -> list[str]:
    kernels = _kernels()
    lines = [
        "| | " + " | ".join(facts.release for facts in kernels.values()) + " |",
        "|---" * (len(kernels) + 1) + "|",
    ]
    for title, cell in rows.items():
        cells = " | ".join(cell(path, facts) for path, facts in kernels.items())
        lines.append(f"| {title} | {cells} |")
    return [*lines, ""]


def kernels() -> str:
    """docs/kernels.md, from the table of events and the recordings of the test kernels."""
    events = {event.name: event.meaning for event in EVENTS}
    events |= {tracepoint.event: tracepoint.meaning for tracepoint in TRACEPOINTS}
    lines = [
        "# Tested kernels",
        "",
        "`make docs` generates this page from the table of events (`ksmwatch/kernel/events.py`)",
        "and from recordings of the test kernels (`tests/fixtures`); a test compares.",
        "`ksmwatch check` prints the plan for your kernel, made from what the kernel has. Only",
        "one thing depends on the version: kernels before 6.7 do not count the kprobe runs that",
        "they skip, so the audit reads all processes in turn there.",
        "",
        "## Where each event is seen",
        "",
        *_table({meaning: _probe(name, Wish.AUTO) for name, meaning in events.items()}),
        "## The same with kprobes only (`--probes=kprobe`)",
        "",
        *_table({meaning: _probe(name, Wish.KPROBE) for name, meaning in events.items()}),
        *_on_arm64(events),
        "## Other features",
        "",
        *_table(
            {
                "exact reads": lambda _, facts: (
                    "`smaps_rollup`" if facts.smaps_ksm else "`pagemap` and `kpageflags`"
                ),
                "the kernel's number by process": lambda _, facts: _yes(facts.ksm_stat),
                "kprobe programs without a call per page (`bpf_rdonly_cast`)": (
                    lambda _, facts: _yes(bool(facts.casts))
                ),
            }
            | {
                what: lambda path, _, name=name: _yes((path / _KSM / name).exists())
                for name, what in _FILES.items()
            }
        ),
        "If a kernel lacks a file in `/sys/kernel/mm/ksm`, its series are absent, never 0.",
        *_everywhere(),
    ]
    return "\n".join(lines) + "\n"


def _on_arm64(events: Mapping[str, str]) -> list[str]:
    """The same for arm64, as ksmwatch itself said there."""
    rows = [row for row in everywhere.recorded() if row.plan and row.name.endswith("-arm64")]
    if not rows:
        return []
    return [
        "## The same on arm64",
        "",
        "| | " + " | ".join(row.release for row in rows) + " |",
        "|---" * (len(rows) + 1) + "|",
        *(
            f"| {meaning} | {' | '.join(row.plan.get(name, 'none') for row in rows)} |"
            for name, meaning in events.items()
        ),
        "",
    ]


def _everywhere() -> list[str]:
    """Results of those tests that also ran on other kernels."""
    rows = everywhere.recorded()
    if not rows:
        return []
    return [
        "",
        "## Test results",
        "",
        "The number of tests that passed, by `make test-kernels` and `make test-arm64`. On 6.1,",
        "6.12 and 7.3 for x86-64, `make test-all` runs all tests.",
        "",
        *everywhere.table(rows),
    ]


def generate() -> dict[str, str]:
    """The text of each generated file, by its name below docs/."""
    parser = command_line.build_parser(rare=True)
    commands = completion.read(parser)
    return {
        "metrics.md": metrics_page.document((*fronts.SPECS, *web.SPECS)),
        "kernels.md": kernels(),
        "advice.md": advice_page.document(),
        **{f"schemas/{name}.json": schemas.text(kind) for name, kind in schemas.PUBLISHED.items()},
        "design.md": state_table.put_into((_ROOT / "docs/design.md").read_text(encoding="utf-8")),
        "completion/ksmwatch.bash": completion.bash(commands),
        "completion/_ksmwatch": completion.zsh(commands),
        "completion/ksmwatch.fish": completion.fish(commands),
        **{f"man/{name}": page for name, page in manual.pages(parser).items()},
    }


def main() -> None:
    """Write every generated file."""
    for name, text in generate().items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
