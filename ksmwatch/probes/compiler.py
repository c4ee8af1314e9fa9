"""The short-lived process that compiles the BPF programs.

bcc brings LLVM, about 100 MB and half a second of start-up. It lives in this process only:
`main` reads a request from a socket, answers with the compiled programs, and leaves. bcc creates
the maps as well; they go with the process, and the loader creates its own.

The child ends by ``os._exit``: what bcc would clean up at exit is not needed.
"""

from __future__ import annotations

import ctypes as ct
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ksmwatch.child_process import Child
from ksmwatch.errors import NoLiveError
from ksmwatch.kernel import libbpf
from ksmwatch.probes.compiled import Compiled, Instructions, MapShape, decode, encode
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.plan import Plan
from ksmwatch.probes.sources import MAPS, SOURCES, bpf_directory

# Helpers that do not exist. Calls of the first become calls of the rest of the program. Calls of
# the others become calls of the kernel function whose BTF id is the difference.
_REST_MARK = 0x7FFF0000
_KFUNC_MARK = 0x40000000
# An offset. Atomic additions there get a result (BPF_FETCH), and the offset 0: see bpf/order.h.
_FETCH_MARK = 0x6B73
# A number that becomes the address of the page in conversion, a map's value: `r = NUMBER`.
_CONVERTING_MARK = 0x6B736D77636E7621
_CONVERTING = "converting"
# A number that becomes the address of the function that bpf_loop() calls: `r = NUMBER`.
_CALLBACK_MARK = 0x6B736D77616C6B21
# That function by program, and that of all others.
_CALLBACKS = {"find_changed": "look_at"}
_WALK = "walk_edge"
# include/uapi/linux/bpf.h; src_reg says what is called, or what an address is.
_CALL = 0x85
_ATOMIC_64 = 0xDB
_FETCH = 1
_PSEUDO_CALL = 1 << 4
_PSEUDO_KFUNC_CALL = 2 << 4
_PSEUDO_FUNCTION = 4 << 4
# Moves register 2 to register 1.
_SECOND_IS_FIRST = libbpf.INSTRUCTION.pack(0xBF, 0x21, 0, 0)
# struct module formats of the C types that bcc generates for our records.
_FORMATS: dict[Any, str] = {ct.c_uint64: "Q", ct.c_int64: "q", ct.c_uint32: "I", ct.c_int32: "i"}
# LLVM takes two seconds of an ordinary core; a start may take ten minutes (TimeoutStartSec=).
_TIMEOUT_SECONDS = 300
_PIECE = 1 << 20
# The key in the result that the child sends, where no key is compared.
_ANY = "-"


def compile_programs(plan: Plan, flags: Sequence[str]) -> Compiled:
    """Run the compiler process. Raises NoLiveError with the compiler's or bcc's own words."""
    request = {
        "flags": list(flags),
        "layout": plan.layout,
        "programs": [(program.name, program.rest) for program in plan.programs],
    }
    with Child(__name__) as child:
        child.channel.settimeout(_TIMEOUT_SECONDS)
        try:
            child.channel.sendall(json.dumps(request).encode() + b"\n")
            found, why = _answer(_receive(child.channel))
        except (OSError, ValueError) as error:
            child.end()
            failure = NoLiveError(f"The BPF compiler failed: {child.complaint or error}.")
            # Without CPU time it times out, and without memory the kernel kills it.
            raise failure.but_it_may_pass() from error
    if found is None:
        why = child.complaint or why
        raise NoLiveError(f"The BPF programs could not be compiled: {why}.")
    return found


def _receive(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    return b"".join(iter(lambda: sock.recv(_PIECE), b""))


def _answer(data: bytes) -> tuple[Compiled | None, str]:
    """What was compiled, or why nothing was. Raises ValueError if it says neither."""
    if not data:
        raise ValueError("it ended without an answer")
    if data.startswith(b"{"):
        return None, json.loads(data)["error"]
    return decode(data, _ANY), ""


# ---- what runs in the compiler process ----


def _fields(record: Any) -> list[Field]:
    """Each member of a ctypes record; none for plain integers.

    Members of an inner record appear as members of the outer one.
    """
    found = []
    for name, kind, *_ in getattr(record, "_fields_", ()):
        offset = getattr(record, name).offset
        if issubclass(kind, ct.Structure):
            found += [Field(f.name, offset + f.offset, f.format) for f in _fields(kind)]
        else:
            found.append(Field(name, offset, _format(kind)))
    return found


def _format(kind: Any) -> str:
    if not issubclass(kind, ct.Array):
        return _FORMATS[kind]
    element = kind._type_
    return f"{kind._length_}{'s' if element is ct.c_char else _FORMATS[element]}"


def _compile(request: dict[str, Any]) -> tuple[Any, Any]:
    """The module, and bcc's library."""
    directory = bpf_directory()
    if request["layout"] == "btf":
        # The few names that bcc's front end needs, in place of kernel headers.
        os.environ["BCC_KERNEL_SOURCE"] = str(directory / "headers")
    import bcc

    class Unattached(bcc.BPF):  # type: ignore[misc]
        """bcc would attach programs by their names right after compiling."""

        def _trace_autoload(self) -> None:
            pass

    lib = bcc.libbcc.lib
    lib.bpf_num_tables.argtypes = [ct.c_void_p]
    for function in (*(lib.bpf_table_name, lib.bpf_table_key_size_id, lib.bpf_table_leaf_size_id),):
        function.argtypes = [ct.c_void_p, ct.c_size_t]
    lib.bpf_table_name.restype = ct.c_char_p
    text = "\n".join((directory / name).read_text() for name in SOURCES)
    marks = [
        f"-DREST_MARK={_REST_MARK}",
        f"-DKFUNC_MARK={_KFUNC_MARK}",
        f"-DFETCH_MARK={_FETCH_MARK}",
        f"-DCALLBACK_MARK={_CALLBACK_MARK}ULL",
        f"-DCONVERTING_MARK={_CONVERTING_MARK}ULL",
    ]
    return Unattached(text=text, cflags=[*request["flags"], *marks, f"-I{directory}"]), lib


def linked(
    code: bytes, rest: bytes, callback: bytes, places: Mapping[int, int], page: int
) -> Instructions:
    """A program followed by the functions it calls, with the marks replaced.

    `places`: the places of maps in their list, by bcc's descriptors. `page`: the place of the map
    whose only value some programs load.
    """
    words = list(libbpf.INSTRUCTION.iter_unpack(code + rest))
    end, calls_back = len(code) // libbpf.INSTRUCTION.size, False
    for place, (opcode, register, offset, value) in enumerate(words):
        # Distances are counted from the next instruction.
        if opcode == _CALL and value == _REST_MARK:
            words[place] = (_CALL, _PSEUDO_CALL, 0, end - place - 1)
        elif opcode == _CALL and value > _KFUNC_MARK:
            words[place] = (_CALL, _PSEUDO_KFUNC_CALL, 0, value - _KFUNC_MARK)
        elif opcode == _ATOMIC_64 and offset == _FETCH_MARK:
            words[place] = (opcode, register, 0, value | _FETCH)
        elif opcode == libbpf.LOAD_64 and register & 0xF0 == libbpf.PSEUDO_MAP:
            words[place] = (opcode, register, 0, places[value])
        elif opcode == libbpf.LOAD_64 and _number(words, place) == _CALLBACK_MARK:
            words[place] = (opcode, register | _PSEUDO_FUNCTION, 0, end - place - 1)
            words[place + 1] = (0, 0, 0, 0)
            calls_back = True
        elif opcode == libbpf.LOAD_64 and _number(words, place) == _CONVERTING_MARK:
            words[place] = (opcode, register | libbpf.PSEUDO_MAP_VALUE, 0, page)
            words[place + 1] = (0, 0, 0, 0)
    whole = libbpf.assemble(*words)
    if calls_back:
        assert not rest, "no program has both"
        called = linked(callback, b"", b"", places, page).words
        return Instructions(whole + _SECOND_IS_FIRST + called, (0, end))
    return Instructions(whole)


def _number(words: Sequence[tuple[int, ...]], place: int) -> int:
    """The number in a 64-bit load, which takes two instructions."""
    low, high = words[place][3], words[place + 1][3]
    return (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF


def _shapes(module: Any, lib: Any) -> tuple[list[MapShape], dict[int, int]]:
    """All maps that bcc has created, and the place of each by its descriptor."""
    shapes: list[MapShape] = []
    places = {}
    for number in range(lib.bpf_num_tables(module.module)):
        name = lib.bpf_table_name(module.module, number)
        table = module[name]
        places[table.get_fd()] = len(shapes)
        shapes.append(
            MapShape(
                name.decode(),
                lib.bpf_table_type_id(module.module, number),
                # Not of bcc's types: of a map by CPU, they are as large as on this host.
                lib.bpf_table_key_size_id(module.module, number),
                lib.bpf_table_leaf_size_id(module.module, number),
                lib.bpf_table_max_entries_id(module.module, number),
                lib.bpf_table_flags_id(module.module, number),
                tuple(_fields(table.Leaf)) if name.decode() in MAPS else (),
            )
        )
    return shapes, places


def _compiled(request: dict[str, Any]) -> Compiled:
    """Bcc compiles each function by itself, and links nothing."""
    module, lib = _compile(request)
    shapes, places = _shapes(module, lib)
    page = next(at for at, shape in enumerate(shapes) if shape.name == _CONVERTING)
    programs = {}
    for name, rest in request["programs"]:
        code = module.dump_func(name.encode())
        called = module.dump_func(rest.encode()) if rest is not None else b""
        callback = module.dump_func(_CALLBACKS.get(name, _WALK).encode())
        programs[name] = linked(code, called, callback, places, page)
    return Compiled(tuple(shapes), programs)


def _serve(sock: socket.socket) -> None:
    request = json.loads(sock.makefile("rb").readline())
    try:
        answer = encode(_ANY, _compiled(request))
    except Exception as error:  # noqa: BLE001 - bcc raises bare Exception
        # An OSError from ctypes has no strerror; its text has everything.
        why = getattr(error, "strerror", None) or str(error)
        answer = json.dumps({"error": why or type(error).__name__}).encode()
    sock.sendall(answer)


def main() -> None:
    """Serve one request on the socket whose number is the only argument."""
    _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.stderr.flush()
    os._exit(0)
