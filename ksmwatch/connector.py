"""The kernel's process connector: who exec'ed, ended, or changed name or user.

Read by a small parser of our own. pyroute2 speaks this protocol too, for 11 MB of memory and a
tenth of a millisecond for each message, of which a host that forks a lot sends thousands a second.
"""

from __future__ import annotations

import ctypes as ct
import errno
import socket
import struct
from collections.abc import Iterator

# include/uapi/linux/netlink.h, connector.h and cn_proc.h
_NETLINK_CONNECTOR = 11
_NLMSG_DONE = 3
_IDX_PROC = _VAL_PROC = 1
_MCAST_LISTEN = 1
_NONE, EXEC, UID, COMM, EXIT = 0x0, 0x2, 0x4, 0x200, 0x80000000

# A struct nlmsghdr and a struct cn_msg stand before a struct proc_event.
_NLMSGHDR = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_EVENT = _NLMSGHDR.size + _CN_MSG.size
# After `what`, cpu and time: process_pid and process_tgid, or the error of an acknowledgement.
_WHAT, _PID, _TGID = _EVENT, _EVENT + 16, _EVENT + 20
_U32 = struct.Struct("=I")

# asm-generic/socket.h
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
# Room for some thousand messages. The kernel takes it only when they come.
_BUFFER_BYTES = 1 << 20
_ANSWER_SECONDS = 1.0

# Classic BPF, include/uapi/linux/bpf_common.h
_LOAD, _JUMP_IF, _JUMP_IF_X, _TO_X, _RETURN = 0x20, 0x15, 0x1D, 0x07, 0x06


def _in_filter(number: int) -> int:
    """A number of the host as a classic BPF program loads it, in network order."""
    return int.from_bytes(_U32.pack(number), "big")


# Takes acknowledgements, and the events that matter of a process' first thread: forks, and what
# other threads do, wake nobody and fill no buffer. Jumps are relative to the next instruction.
_FILTER = (
    (_LOAD, 0, 0, _WHAT),
    (_JUMP_IF, 8, 0, _in_filter(_NONE)),
    (_JUMP_IF, 3, 0, _in_filter(EXEC)),
    (_JUMP_IF, 2, 0, _in_filter(UID)),
    (_JUMP_IF, 1, 0, _in_filter(COMM)),
    (_JUMP_IF, 0, 5, _in_filter(EXIT)),
    (_LOAD, 0, 0, _PID),
    (_TO_X, 0, 0, 0),
    (_LOAD, 0, 0, _TGID),
    (_JUMP_IF_X, 0, 1, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


class Connector:
    """A socket that the kernel writes events of processes to, in the order in which they happen.

    Nobody has to listen to it: what has happened before `changed` is called is there by then.
    Needs CAP_NET_ADMIN and the initial user, pid and network namespaces.
    Raises OSError where the kernel does not answer or refuses.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        try:
            self._listen()
        except OSError:
            self._socket.close()
            raise

    def _listen(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        code = ct.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _FILTER))
        program = struct.pack("HP", len(_FILTER), ct.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._socket.bind((0, _IDX_PROC))
        request = _CN_MSG.pack(_IDX_PROC, _VAL_PROC, 0, 0, _U32.size, 0) + _U32.pack(_MCAST_LISTEN)
        header = _NLMSGHDR.pack(_NLMSGHDR.size + len(request), _NLMSG_DONE, 0, 0, 0)
        self._socket.send(header + request)
        self._socket.settimeout(_ANSWER_SECONDS)
        # In other namespaces the kernel says nothing at all.
        while _U32.unpack_from(answer := self._socket.recv(4096), _WHAT)[0] != _NONE:
            pass
        (error,) = _U32.unpack_from(answer, _PID)
        if error:
            raise OSError(error, "the process connector refuses")
        self._socket.settimeout(0)

    def changed(self) -> Iterator[int | None]:
        """Each process that has changed or ended since the last call; None: anybody may have."""
        receive, unpack = self._socket.recv, _U32.unpack_from
        while True:
            try:
                yield unpack(receive(4096), _TGID)[0]
            except BlockingIOError:
                return
            except OSError as error:
                # More came than the buffer takes, or there was no memory for it.
                if error.errno != errno.ENOBUFS:
                    raise
                yield None

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()
