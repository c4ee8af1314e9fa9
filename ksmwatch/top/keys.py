"""The keys of `top`: bindings, the footer and the help page, as data. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ksmwatch.terminal_text import clean, fit
from ksmwatch.top.toned_text import Line, Tone
from ksmwatch.top.view import View

# Keys and the action of the application (`action_NAME` in app.py).
BINDINGS = (
    ("f1,h,question_mark", "help"),
    ("enter,plus,minus,equals_sign", "fold"),
    ("f5", "change('tree')"),
    ("f6", "choose_sort"),
    ("less_than_sign,comma", "next_sort(-1)"),
    ("greater_than_sign,full_stop", "next_sort(1)"),
    ("I", "change('invert')"),
    ("M", "sort('mapped')"),
    ("P", "sort('came')"),
    ("N", "change('sort_by_name')"),
    ("g", "change('group')"),
    ("r", "change('rates')"),
    ("u", "change('unit')"),
    ("t", "go(1, 0)"),
    ("T", "go(-1, 0)"),
    ("j", "go(0, 600)"),
    ("J", "go(0, -600)"),
    ("p,space", "pause"),
    ("d", "details"),
    ("m", "areas"),
    ("a", "alerts"),
    ("q,f10,ctrl+c", "quit"),
)
# With priority, so that they run before the widget with the focus gets the next key. Otherwise
# fast typing would overtake them.
URGENT = (
    ("f3,f4,slash,backslash", "filter"),
    ("enter", "keep_filter"),
    ("escape", "clear_filter"),
)
_FOOTER = (
    ("F1", "Help"),
    ("F3", "Filter"),
    ("F5", "Tree"),
    ("F6", "Sort"),
    ("g", "Group"),
    ("r", "Rates"),
    ("u", "Units"),
    ("p", "Pause"),
    ("F10", "Quit"),
)
_HELP = (
    ("Arrows PgUp PgDn", "move; Home is the first row, End the last"),
    ("F3 F4 /", "filter by part of a name, id, unit or kind, or by pid"),
    ("Escape", "remove the filter"),
    ("F5", "tree: members below groups, children below parents"),
    ("Enter + -", "fold or unfold the row"),
    ("F6 < >", "choose the column to sort by; the previous, the next"),
    ("I", "reverse the order"),
    ("M P N", "sort by mappings, arrivals, name or pid"),
    ("g", "group by owner, kind, unit, user; or processes"),
    ("r", "movements per second, or in total"),
    ("u", "pages, KiB, MiB, GiB"),
    ("T t J j", "back, forward, by a moment or ten minutes (history)"),
    ("p Space", "pause; return to now"),
    ("d m a", "details of the row; areas of the process; all alerts"),
    ("q F10", "quit"),
)
_COLUMNS = (
    ("MAPPED", "PTEs that map a KSM page; ~ if estimated"),
    ("SAVED", "an owner's part of what the host saves"),
    ("KERNEL LAG", "the kernel's own count, and ours minus it"),
    ("CAME WENT", "mappings that came (merged, forked) and went"),
    ("STRAY", "mappings in areas that are not mergeable"),
    ("READ", "how long ago the page tables were read"),
)


def help_page() -> list[Line]:
    """The keys and columns."""
    keys, heads = (
        [[(Tone.TITLE, f"{key:18}"), (Tone.PLAIN, text)] for key, text in lines]
        for lines in (_HELP, _COLUMNS)
    )
    return [*keys, [], *heads]


def footer(view: View | None, width: int) -> Line:
    """The most used keys; or the filter, how many rows pass it, and how to leave it."""
    if view is None or not view.options.filter:
        return keys_line(_FOOTER, width)
    found = f"{view.selected} of {len(view.sample.processes)} processes"
    return [
        (Tone.WARN, f"Filter: {clean(view.options.filter)}"),
        (Tone.PLAIN, f"  {found}  "),
        (Tone.TITLE, "Esc"),
        (Tone.LABEL, " shows all"),
    ]


def keys_line(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """As many keys, with their meaning, as fit."""
    line: Line = []
    room = width
    for key, text in keys:
        if len(key) + len(text) + 2 > room:
            break
        room -= len(key) + len(text) + 2
        line += [(Tone.TITLE, key), (Tone.LABEL, f" {fit(text, len(text))} ")]
    return line
