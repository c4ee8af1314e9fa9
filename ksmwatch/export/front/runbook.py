"""The runbook, as pages: what to do about an alert, on the host that it is about."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping

from ksmwatch.export.front.page import Page
from ksmwatch.export.front.style import HEADERS, document

PATH = "/runbook/"


def runbook_directory() -> str:
    """Where its files are: in the package when installed, below docs/ in a checkout."""
    package = os.path.realpath(f"{__file__}/../../..")
    installed = f"{package}/runbook"
    return installed if os.path.isdir(installed) else f"{package}/../docs/runbook"


def read(directory: str) -> Mapping[str, str]:
    """Its pages by name; none where they are not installed."""
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    return {name[:-3]: _text(f"{directory}/{name}") for name in names if name.endswith(".md")}


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()


def page(name: str, text: str) -> Page:
    """A page: the text as it is in the file, which is meant to be read as it is."""
    title = html.escape(name)
    body = (
        f'<p><a href="/">Back to the host</a></p><main><div class="panel"><pre>{html.escape(text)}'
        "</pre></div></main>"
    )
    return Page(document(f"{title} - ksmwatch", body), HEADERS)
