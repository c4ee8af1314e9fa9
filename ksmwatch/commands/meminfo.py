"""``ksmwatch meminfo``: the /proc/meminfo of the 2011 patch. Pure."""

from __future__ import annotations


def with_ksm(text: str, mappings: int, page_size: int) -> str:
    """/proc/meminfo with `KsmSharing` below `PageTables`, as the 2011 patch proposed."""
    line = f"KsmSharing:     {mappings * page_size // 1024:8d} kB"
    lines = text.splitlines()
    at = next((i for i, each in enumerate(lines) if each.startswith("PageTables:")), len(lines) - 1)
    return "\n".join([*lines[: at + 1], line, *lines[at + 1 :]])
