"""docs/advice.md, from the catalogue of advice."""

from __future__ import annotations

from collections.abc import Iterator

from ksmwatch.diagnose.advice import ADVISOR, CATALOGUE, TUNERS, Sentence

_EVER = 1 << 16


def document() -> str:
    """The whole page."""
    lines = [
        "# Advice, and when it is right",
        "",
        "`make docs` generates this page from `ksmwatch/diagnose/advice.py`. A test compares the",
        "two, and tries all advice on each recorded host. For each kind of advice, `ksmwatch why`",
        "prints the first that is right on its host.",
        "",
        "## What else sets KSM's files",
        "",
        "While one of these programs runs, a value written by hand does not last, or is refused.",
        "Change the program's own configuration instead.",
        "",
        "| program | sets | its configuration |",
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
        yield "a program sets " + ", ".join(f"`{name}`" for name in sentence.held)
    elif sentence.writes:
        yield "no program sets " + ", ".join(f"`{name}`" for name in sentence.writes)
