"""The maps that programs share with the daemon, as the loader describes them."""

from __future__ import annotations

from ksmwatch.probes.loader import Loaded, LoadedMap
from ksmwatch.probes.map_records import Conversion, Field


def _words(*names: str) -> tuple[Field, ...]:
    """Members of eight bytes, one after the other."""
    return tuple(Field(name, 8 * place, "Q") for place, name in enumerate(names))


ACCOUNT = LoadedMap(
    1,
    8,
    192,
    (
        Field("id", 0, "Q"),
        Field("moves", 8, "7Q"),
        Field("doubts", 64, "Q"),
        Field("start_boottime", 72, "Q"),
        Field("tgid", 80, "I"),
        Field("unused", 84, "I"),
        Field("comm", 88, "16s"),
        Field("unseen_until", 104, "Q"),
        Field("noted", 112, "I"),
        Field("wasted", 116, "I"),
        Field("ages", 120, "18I"),
    ),
)
LOADED = Loaded(
    {
        "accounts": ACCOUNT,
        "baselines": LoadedMap(
            2, 8, 24, (Field("id", 0, "Q"), Field("mappings", 8, "q"), Field("doubts", 16, "Q"))
        ),
        "totals": LoadedMap(3, 4, 8, ()),
        "controls": LoadedMap(
            4,
            4,
            72,
            (
                Field("ksmd", 0, "I"),
                Field("reader", 4, "I"),
                Field("opening_doubt", 8, "Q"),
                Field("asleep", 16, "Q"),
                Field("sweep_signs", 24, "Q"),
                Field("alarms_swept", 32, "Q"),
                Field("age_mask", 40, "Q"),
                Field("ages_since", 48, "Q"),
                Field("scan_ns", 56, "Q"),
                Field("calls_since", 64, "Q"),
            ),
        ),
        "conversions": LoadedMap(5, 4, 80, _words(*Conversion._fields)),
        "converting": LoadedMap(11, 4, 8, ()),
        "readings": LoadedMap(12, 4, 16, _words("mm", "moved")),
        "openings": LoadedMap(
            6,
            4,
            56,
            (
                *_words("thread", "seen", "mm", "start_boottime"),
                Field("tgid", 32, "I"),
                Field("unused", 36, "I"),
                Field("comm", 40, "16s"),
            ),
        ),
        "forgettings": LoadedMap(13, 4, 24, _words("begun", "ended", "opened")),
        "looks": LoadedMap(
            15,
            4,
            40,
            (
                *_words("mm", "id", "sum", "start_boottime"),
                Field("tgid", 32, "I"),
                Field("changed", 36, "I"),
            ),
        ),
        "migrations": LoadedMap(8, 4, 24, _words("begun", "ended", "underway")),
        "alarms": LoadedMap(9, 4, 8, ()),
        "call_sites": LoadedMap(
            10,
            4,
            24,
            (
                *_words("hooked", "copy"),
                Field("learner", 16, "I"),
                Field("seen", 20, "I"),
            ),
        ),
        "cgroup_moves": LoadedMap(14, 4, 8 * 257, ()),
        "manifests": LoadedMap(7, 4, 16384, (Field("text", 0, "16384s"),)),
    },
    {},
)
