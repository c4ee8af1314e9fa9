"""The front's end of the channel to the daemon."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

from ksmwatch.export.front_channel import LENGTH, QUESTION, Answer, SampleReceiver, decoded

_BUFFER_BYTES = 1 << 20


class Link:
    """Asks the daemon. Requests during a wait share the answer if it is young enough."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        # Called with every message, before those who wait for it.
        self._take = take
        self._answers = SampleReceiver()
        self._taken: float | None = None
        self._answer: asyncio.Future[None] | None = None
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def ready(self) -> bool:
        """Whether the daemon has ever answered, which means that its baseline is done."""
        return self._taken is not None

    async def serve(self, sock: socket.socket) -> None:
        """Receive what the daemon sends; returns when the daemon is gone."""
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=_BUFFER_BYTES)
        # So that the front learns when the daemon is ready.
        self._question(float("inf"))
        try:
            while True:
                self._receive(await self._message())
        except (EOFError, ConnectionError):
            self._writer.close()

    async def _message(self) -> Any:
        (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
        return self._answers.whole(decoded(await self._reader.readexactly(length)))

    def _receive(self, message: Any) -> None:
        self._take(message)
        if isinstance(message, Answer):
            self._taken = message.taken
            assert self._answer is not None
            self._answer.set_result(None)
            self._answer = None

    async def ask(self, max_age: float) -> None:
        """Returns once there is an answer of at most this age."""
        wanted = time.monotonic() - max_age
        while self._taken is None or self._taken < wanted:
            # One client that stops waiting must not stop the others.
            await asyncio.shield(self._answer or self._question(max_age))

    def _question(self, max_age: float) -> asyncio.Future[None]:
        self._writer.write(QUESTION.pack(max_age, 0))
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer
