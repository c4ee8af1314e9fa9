"""Writes what is generated below docs/: `python -m ksmwatch.docs`, or `make docs`."""

from __future__ import annotations

from pathlib import Path

from ksmwatch import metrics

DOCS = Path(__file__).resolve().parents[1] / "docs"


def generate() -> dict[str, str]:
    """Text by file name."""
    return {"metrics.md": metrics.document()}


def main() -> None:
    """Write every generated file."""
    for name, text in generate().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
