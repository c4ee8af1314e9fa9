"""A small client of the gdb remote protocol, as much of it as QEMU's gdbstub needs.

A *thread* of the protocol is a CPU of the guest, numbered from 1.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from pathlib import Path

_RIP = 16  # its number; also its place, as all general registers before it have eight bytes
_ANSWER_SECONDS = 60
INTERRUPT = b"\x03"
# x86-64 general registers in the order of the protocol.
REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)


class GdbError(Exception):
    """The stub refused, or said what it should not."""


def packet(payload: str) -> bytes:
    """A packet with its checksum."""
    data = payload.encode("ascii")
    return b"$" + data + f"#{sum(data) % 256:02x}".encode()


def take_packet(received: bytes) -> tuple[str | None, bytes]:
    """The first whole packet of what was received, and the rest; acknowledgements are dropped."""
    match = re.match(rb"[+]*\$([^#]*)#([0-9a-f]{2})", received)
    if match is None:
        return None, received
    data = match[1]
    if sum(data) % 256 != int(match[2], 16):
        raise GdbError(f"bad checksum: {data!r}")
    return data.decode("ascii"), received[match.end() :]


def stopped_thread(reply: str) -> int:
    """Which CPU a stop is about: T05thread:02; as an example."""
    match = re.search(r"thread:(?:p[0-9a-f]+\.)?([0-9a-f]+)", reply)
    if match is None:
        raise GdbError(f"no thread in {reply}")
    return int(match[1], 16)


class Gdb:
    """A connection. To connect stops the guest."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._received = b""
        self.running = False
        # To connect is to stop the guest, which the stub reports like any other stop.
        features = self._ask("qSupported:multiprocess-;vContSupported+")
        while not features.startswith("PacketSize"):
            features = self._receive(_ANSWER_SECONDS) or ""
        # Without having told what the registers are, QEMU lets none be set.
        self._ask("qXfer:features:read:target.xml:0,ffb")
        self._ask("?")
        if "c" not in self._ask("vCont?"):
            raise GdbError("the stub has no vCont")

    def fileno(self) -> int:
        """To select on: readable when the guest has stopped."""
        return self._socket.fileno()

    def close(self) -> None:
        """Let go; the guest runs on."""
        with contextlib.suppress(OSError, GdbError):
            if self.running:
                self.interrupt()
            self._ask("D")
        self._socket.close()

    # ---- running ----

    def run(self) -> None:
        """Let all CPUs run."""
        self._send("vCont;c")
        self.running = True

    def interrupt(self) -> None:
        """Stop all CPUs. A breakpoint that was hit just now is hit again later."""
        if self.running:
            self._socket.sendall(INTERRUPT)
            self.wait_for_stop(_ANSWER_SECONDS)

    def wait_for_stop(self, seconds: float) -> int | None:
        """The CPU that has stopped the guest; None if it still runs after so long (0: by now)."""
        reply = self._receive(seconds)
        if reply is None:
            return None
        self.running = False
        return stopped_thread(reply)

    def step(self, thread: int) -> None:
        """One instruction of one CPU, with no interrupts."""
        self._send(f"vCont;s:{thread:x}")
        self.running = True
        if self.wait_for_stop(_ANSWER_SECONDS) is None:
            raise GdbError("a step does not end")

    # ---- while stopped ----

    def registers(self, thread: int) -> dict[str, int]:
        """General registers of a CPU."""
        self._command(f"Hg{thread:x}")
        raw = bytes.fromhex(self._ask("g")[: len(REGISTERS) * 16])
        return dict(zip(REGISTERS, struct.unpack(f"<{len(REGISTERS)}Q", raw), strict=True))

    def set_rip(self, thread: int, address: int) -> None:
        """Make a CPU go on elsewhere."""
        self._command(f"Hg{thread:x}")
        self._command(f"P{_RIP:x}={struct.pack('<Q', address).hex()}")

    def read(self, address: int, length: int) -> bytes:
        """Memory as the CPU sees it that was chosen last."""
        data = b""
        while len(data) < length:
            size = min(length - len(data), 1024)
            reply = self._ask(f"m{address + len(data):x},{size:x}")
            if reply.startswith("E"):
                raise GdbError(f"no memory at {address:#x}")
            data += bytes.fromhex(reply)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Change memory, code as well."""
        self._command(f"M{address:x},{len(data):x}:{data.hex()}")

    def set_breakpoint(self, address: int) -> None:
        """Before the instruction at this address."""
        self._command(f"Z0,{address:x},1")

    def clear_breakpoint(self, address: int) -> None:
        """No more."""
        self._command(f"z0,{address:x},1")

    # ---- packets ----

    def _command(self, payload: str) -> None:
        reply = self._ask(payload)
        if reply != "OK":
            raise GdbError(f"{payload}: {reply or 'not supported'}")

    def _ask(self, payload: str) -> str:
        self._send(payload)
        reply = self._receive(_ANSWER_SECONDS)
        if reply is None:
            raise GdbError(f"no answer to {payload}")
        return reply

    def _send(self, payload: str) -> None:
        self._socket.sendall(packet(payload))

    def _receive(self, seconds: float) -> str | None:
        self._socket.settimeout(seconds)
        while True:
            reply, self._received = take_packet(self._received)
            if reply is not None:
                self._socket.sendall(b"+")
                return reply
            try:
                data = self._socket.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            if not data:
                raise GdbError("QEMU has closed the connection")
            self._received += data
