"""A headless Chromium, told what to do by its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from ksmwatch.kernel.syscalls import prctl
from tests.children import Ending
from tests.waiting import Deadline

# include/uapi/linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_SECONDS = 240
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    "--remote-debugging-pipe",
)


class Browser(Ending):
    """One page of a browser that knows nothing of a page before."""

    def __init__(self) -> None:
        # Processes of the browser whose parent has ended become ours, so that we can wait for them.
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._home = tempfile.TemporaryDirectory(prefix="ksmwatch-browser-")
        # It reads from its descriptor 3, and writes to 4.
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = " ".join(("exec chromium", *_OPTIONS, '"$@"', f"3<&{theirs_in} 4>&{theirs_out}"))
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", f"--user-data-dir={self._home.name}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._number = 0
        self._events: deque[dict[str, Any]] = deque()
        self.said: list[str] = []
        self.asked: list[str] = []
        self._session: str | None = None
        (target,) = (
            each["targetId"]
            for each in self.tell("Target.getTargets")["targetInfos"]
            if each["type"] == "page"
        )
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Log", "Network", "Accessibility", "Runtime", "DOM"):
            self.tell(f"{domain}.enable")

    def end(self) -> None:
        os.close(self._out)
        os.close(self._in)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Its other processes write to its home until they end, too.
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-self._process.pid, 0)
        self._home.cleanup()

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        """Record the browser's complaints, and its requests to the server."""
        if event["method"] == "Log.entryAdded":
            self.said.append(event["params"]["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.asked.append(event["params"]["request"]["url"])
        self._events.append(event)

    def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Do this; what it answers."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self._note(answer)

    def wait_for(self, method: str) -> dict[str, Any]:
        """The next event of this kind."""
        deadline = Deadline(_SECONDS)
        while not deadline.passed:
            while self._events:
                event = self._events.popleft()
                if event["method"] == method:
                    return event
            self._note(self._message())
        raise AssertionError(f"no {method}")

    def go(self, url: str) -> None:
        """Load a page; returns when it is there."""
        self._events.clear()
        self.said.clear()
        self.asked.clear()
        self.tell("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """The screen, and the user's preferences."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, path: Path) -> None:
        """The whole page, as PNG."""
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def heard(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader reads, in order."""
        nodes = self.tell("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]
