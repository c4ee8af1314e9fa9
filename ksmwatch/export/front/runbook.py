"""The runbook, as pages: what to do about an alert, on the host that it is about."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from ksmwatch.export.front.page import Page
from ksmwatch.export.front.style import HEADERS, document

PATH = "/runbook/"


def runbook_directory() -> Path:
    """Where its files are: in the package when installed, below docs/ in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "runbook"
    return installed if installed.is_dir() else package.parent / "docs/runbook"


def read(directory: Path) -> Mapping[str, str]:
    """Its pages by name; none where they are not installed."""
    return {path.stem: path.read_text() for path in sorted(directory.glob("*.md"))}


def page(name: str, text: str) -> Page:
    """A page: the text as it is in the file, which is meant to be read as it is."""
    title = html.escape(name)
    body = (
        f'<p><a href="/">Back to the host</a></p><main><div class="panel"><pre>{html.escape(text)}'
        "</pre></div></main>"
    )
    return Page(document(f"{title} - ksmwatch", body), HEADERS)
