"""docs/advice.md, from the catalogue of advice."""

from __future__ import annotations

from collections.abc import Iterator

from ksmwatch.diagnose.advice import ADVISOR, CATALOGUE, TUNERS, Sentence

_EVER = 1 << 16


def document() -> str:
    """All of the page."""
    lines = [
        "# Advice, and when it is right",
        "",
        "Made by `make docs` from `ksmwatch/diagnose/advice.py`; a test compares, and goes through",
        "all of it for each recorded host. `ksmwatch why` gives of each kind the first that is",
        "right on the host where it runs.",
        "",
        "## Who else sets KSM's files",
        "",
        "What is written by hand does not last, or is refused, while one of these runs. Change its",
        "own configuration instead.",
        "",
        "| who | sets | its configuration |",
        "|---|---|---|",
    ]
    for holder in (ADVISOR, *TUNERS):
        files = ", ".join(f"`{name}`" for name in sorted(holder.files))
        lines.append(f"| {holder.name} | {files} | {holder.instead} |")
    lines += ["", "## All advice", "", "| about | advice | if |", "|---|---|---|"]
    for what, sentences in CATALOGUE.items():
        for sentence in sentences:
            text = sentence.text.replace("|", "\\|").replace("<", "&lt;")
            conditions = "; ".join(_conditions(sentence)) or "-"
            lines.append(f"| {what.value.replace('_', ' ')} | {text} | {conditions} |")
    return "\n".join(lines) + "\n"


def _conditions(sentence: Sentence) -> Iterator[str]:
    if sentence.files:
        yield "the kernel has " + ", ".join(f"`{name}`" for name in sorted(sentence.files))
    if sentence.lacks:
        yield "the kernel has no " + ", ".join(f"`{name}`" for name in sorted(sentence.lacks))
    if sentence.systemd is not None:
        low, high = sentence.systemd
        yield f"systemd {low} or later" if high >= _EVER else f"systemd from {low} to before {high}"
    if sentence.held:
        yield "somebody sets " + ", ".join(f"`{name}`" for name in sentence.held)
    elif sentence.writes:
        yield "nobody else sets " + ", ".join(f"`{name}`" for name in sentence.writes)
