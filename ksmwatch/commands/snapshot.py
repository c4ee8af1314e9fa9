"""``ksmwatch snapshot``: a snapshot document for people. Pure."""

from __future__ import annotations

from typing import Any

from ksmwatch.commands.text_tables import mib, or_dash, table
from ksmwatch.terminal_text import clean


def _kernel(host: dict[str, Any]) -> str:
    return f"{or_dash(host['kernel_mappings'])} pages, lag {or_dash(host['kernel_lag'])}"


def text(document: dict[str, Any]) -> str:
    """A snapshot document as text."""
    host = document["host"]
    lines = [
        f"KSM mappings  {host['mappings']} pages, {mib(host['bytes'])} MiB ({host['confidence']})",
        f"kernel says   {_kernel(host)}",
        f"mode          {document['mode']}{', asleep' if document['asleep'] else ''}",
    ]
    if host["reason"]:
        lines.append(f"why           {clean(host['reason'])}")
    if document["mode_reason"]:
        lines.append(f"because       {clean(document['mode_reason'])}")
    lost = {kind: n for kind, n in document["losses"].items() if n}
    if lost:
        lines.append("losses        " + ", ".join(f"{k} {n}" for k, n in lost.items()))
    rows = [
        (
            p["pid"],
            p["name"],
            p["mappings"],
            mib(p["bytes"]),
            or_dash(p["kernel_merging_pages"]),
            or_dash(p["kernel_lag"]),
            p["confidence"],
        )
        for p in document["processes"]
    ]
    if rows:
        head = ("PID", "NAME", "MAPPINGS", "MIB", "KERNEL", "LAG", "CONFIDENCE")
        lines += ["", table(head, rows)]
    return "\n".join(lines)
