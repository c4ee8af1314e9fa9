"""A real front of a fake daemon: a desk that hands out an invented host."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from ksmwatch import config
from ksmwatch.export.fronts import Outputs, listen
from ksmwatch.option_values import Address
from ksmwatch.snapshot.desk import Desk
from ksmwatch.snapshot.model import Snapshot
from tests.children import Ending
from tests.made_up import snapshot


class Served(Ending):
    """The front of an invented host, at its own port. `ready`: whether there are snapshots."""

    def __init__(
        self, *, ready: bool = True, make: Callable[[], Snapshot] = snapshot, **settings: object
    ) -> None:
        # By field name, as flags are given.
        flags = {name: str(value) for name, value in settings.items()}
        self.losses: Counter[str] = Counter()
        self.desk = Desk()
        self._make = make
        self._ending = False
        self._cleanup = ExitStack()
        sock = self._cleanup.enter_context(listen(Address("127.0.0.1", 0)))
        self.port: int = sock.getsockname()[1]
        self.settings = config.make({}, flags)
        outputs = Outputs(lambda: self.settings, self.desk, self.losses)
        self.keeper = outputs.textfile() if "textfile_directory" in flags else outputs.web([sock])
        self._thread = threading.Thread(target=self._work)
        if ready:
            self.get_ready()
        self.keeper.launch()
        self.keeper.start()

    def get_ready(self) -> None:
        """Hand out snapshots from now on."""
        self._thread.start()

    def _work(self) -> None:
        while not self._ending:
            if self.desk.wait_for_request(1):
                self.desk.publish(self._make)

    def end(self) -> None:
        self._ending = True
        self.desk.close()
        self.keeper.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._cleanup.close()

    @property
    def pid(self) -> int:
        """The front that serves now."""
        assert self.keeper.pid is not None
        return self.keeper.pid

    def client(self) -> http.client.HTTPConnection:
        """Somebody who is not connected yet."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def get(self, path: str = "/metrics", method: str = "GET") -> tuple[int, str]:
        """Status and body of a page."""
        client = self.client()
        try:
            client.request(method, path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        finally:
            client.close()

    def samples(self) -> dict[str, float]:
        """A scrape, without comments: value by name and labels as they are written."""
        status, text = self.get()
        assert status == 200, text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}
