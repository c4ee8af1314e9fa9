"""What a user of ksmwatch top does and sees, on a made-up host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from ksmwatch.errors import NoDaemonError
from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.top import source
from ksmwatch.top.app import App, Arrived
from ksmwatch.top.timeline import Timeline
from ksmwatch.top.view import Options
from ksmwatch.top.widgets import Lines, Table
from tests.made_up_host import areas, document


class Host:
    """A source: the invented host, two seconds later with every read; or `problem`."""

    label = "an invented host"

    def __init__(self, count: int) -> None:
        self._count = count
        self._step = -1
        self.problem: str | None = None
        self.closed = False

    def read(self) -> dict[str, Any]:
        if self.problem is not None:
            raise NoDaemonError(self.problem)
        self._step += 1
        return document(self._count, self._step)

    def areas(self, pid: int) -> list[AreaDocument]:
        """Two; or what `problem` says."""
        if self.problem is not None:
            raise NoDaemonError(self.problem)
        return areas(pid)

    def close(self) -> None:
        self.closed = True


class Screen:
    """What a user does and sees."""

    def __init__(self, pilot: Pilot[None], host: Host) -> None:
        self.pilot = pilot
        self.host = host
        app = pilot.app
        assert isinstance(app, App)
        self.app = app

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until they have had their effect."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def read(self) -> None:
        """Another reading comes."""
        self.app.post_message(Arrived(source.read(self.host)))
        await self.pilot.pause()

    @property
    def table(self) -> Table:
        return self.app.screen_stack[0].query_one(Table)

    @property
    def rows(self) -> list[str]:
        """Lines of the table, the heads first, as far as there is anything."""
        lines = [self.table.render_line(y).text for y in range(self.table.size.height)]
        return [line.rstrip() for line in lines if line.strip()]

    @property
    def names(self) -> list[str]:
        """Names in the rows."""
        at = self.rows[0].index("NAME")
        return [row[at:].lstrip("+- ").split()[0] for row in self.rows[1:]]

    @property
    def pids(self) -> list[int]:
        """First column, of processes."""
        return [int(row.split()[0]) for row in self.rows[1:]]

    def lines(self, name: str) -> str:
        """Text of another widget."""
        return self.app.screen_stack[-1].query_one(f"#{name}", Lines).text

    @property
    def below(self) -> str:
        """Header, details and footer."""
        names = ("header", "details", "footer")
        return "\n".join(self.app.screen_stack[0].query_one(f"#{n}", Lines).text for n in names)


Script = Callable[[Screen], Awaitable[None]]


def play(
    script: Script,
    count: int = 14,
    size: tuple[int, int] = (80, 24),
    timeline: Timeline | None = None,
    **options: Any,
) -> Host:
    """Run the application through a script, after its first reading."""
    host = Host(count)

    async def run() -> None:
        app = App(host, Options(**options), 3600, timeline)
        async with app.run_test(size=size) as pilot:
            screen = Screen(pilot, host)
            while "mapped" not in screen.lines("header"):
                await pilot.pause(0.01)
            # So that everything has its place.
            await pilot.pause()
            await script(screen)

    asyncio.run(run())
    return host
