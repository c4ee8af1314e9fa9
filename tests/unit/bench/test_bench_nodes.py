"""What the page says of the cost of nodes."""

from __future__ import annotations

from bench import nodes


def costs(fentry: float, kprobe: float) -> dict[str, object]:
    of = {"nothing": 0.0, "fentry": fentry, "kprobe": kprobe}
    operations = ("merge by ksmd", "COW of a KSM page", "munmap")
    return {"costs": {case: dict.fromkeys(operations, 9e3 + more) for case, more in of.items()}}


def test_the_table_shows_what_is_added_with_one_node_and_with_two() -> None:
    found = {"1": costs(700.2, 1100.0), "2": costs(760.4, 1200.0)}
    text = nodes.section({"date": "2026-01-01", "kernel": "6.12", "nodes": found})
    assert "| merge by ksmd | fentry | +700 | +760 |" in text
    assert "| COW of a KSM page | kprobe | +1,100 | +1,200 |" in text
