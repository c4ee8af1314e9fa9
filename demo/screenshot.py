"""Draws docs/top.svg: `ksmwatch top` on an invented host. Run by `make screenshot`."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path
from typing import Any

from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.options import DEFAULT_SOCKET
from ksmwatch.top import source
from ksmwatch.top.app import App, Arrived
from ksmwatch.top.view import Options
from tests.made_up_host import document

PATH = Path(__file__).resolve().parents[1] / "docs/top.svg"
_SAMPLES = 40


class Host:
    """A source that restarts with every picture."""

    label = DEFAULT_SOCKET

    def __init__(self) -> None:
        self.step = 0

    def read(self) -> dict[str, Any]:
        """The host, two seconds later."""
        self.step += 1
        return document(60, self.step)

    def areas(self, pid: int) -> list[AreaDocument]:
        return []

    def close(self) -> None:
        """Nothing is open."""


async def draw() -> str:
    """The picture, without external fonts."""
    host = Host()
    app = App(host, Options(), 3600)
    async with app.run_test(size=(110, 32)) as pilot:
        # The worker reads once; then it is our turn.
        while not host.step:
            await pilot.pause(0.01)
        for _ in range(_SAMPLES):
            app.post_message(Arrived(source.read(host)))
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        picture = app.export_screenshot(title="ksmwatch top")
    return re.sub(r"@font-face {.*?}", "", picture, flags=re.DOTALL)


def texts(picture: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text [^>]*>([^<]*)</text>", picture)]


if __name__ == "__main__":
    PATH.write_text(asyncio.run(draw()))
