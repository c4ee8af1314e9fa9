"""An answer to a client."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from ksmwatch import __version__
from ksmwatch.export.metric_family import Samples


@dataclass(frozen=True)
class Page:
    """A body and its headers."""

    body: bytes
    headers: Mapping[str, str]
    status: HTTPStatus = HTTPStatus.OK


def sentence(words: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Page:
    """One sentence as plain text. Underscores in header names become dashes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = {"Content-Type": "text/plain; charset=utf-8"}
    return Page(f"{words}\n".encode(), kind | names, status)


@dataclass(frozen=True)
class LandingState:
    """What the landing page shows, by row name."""

    rows: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, samples: Samples) -> LandingState:
        """From the page at the path of the metrics."""
        found = dict(samples)

        def chosen(name: str) -> str | None:
            """The label whose value is 1, in a family with one series per state."""
            return next((labels[0] for labels, value in found.get(name, []) if value), None)

        def number(name: str) -> str | None:
            return next((f"{value:,.0f}" for _, value in found.get(name, [])), None)

        probes = [value for _, value in found.get("ksmwatch_probe_attached", [])]
        rows = {
            "Mode": chosen("ksmwatch_mode"),
            "Confidence": chosen("ksmwatch_confidence"),
            "KSM mappings (pages)": number("ksmwatch_mappings"),
            "The kernel's own number": number("ksmwatch_kernel_mappings"),
            "Probes attached": f"{sum(probes):.0f} of {len(probes)}" if probes else None,
        }
        return cls({name: value for name, value in rows.items() if value is not None})


_LANDING = """<!DOCTYPE html>
<html lang="en"><head><title>ksmwatch</title></head><body>
<h1>ksmwatch</h1><p>Live truth about Kernel Samepage Merging. Version {version}.</p>
{state}
<ul><li><a href="{metrics}">Metrics</a></li><li><a href="/-/healthy">Health</a></li>
<li><a href="/-/ready">Readiness</a></li></ul></body></html>
"""


def landing(telemetry_path: str, state: LandingState) -> Page:
    """The page at /."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in state.rows.items()
    )
    text = _LANDING.format(
        version=__version__,
        metrics=html.escape(telemetry_path),
        state=f"<table>{rows}</table>" if rows else "<p>The baseline is not done.</p>",
    )
    return Page(text.encode(), {"Content-Type": "text/html; charset=utf-8"})
