"""What keys do, as data: every key has an action, every action is one of the application."""

from __future__ import annotations

import re

import pytest

from ksmwatch.top import keys
from ksmwatch.top.app import App
from ksmwatch.top.option_changes import CHANGES, sort_by_head, sort_by_next
from ksmwatch.top.rows import build
from ksmwatch.top.sample import make_sample
from ksmwatch.top.view import Grouping, Options, Unit
from tests.made_up_host import document

ALL = (*keys.URGENT, *keys.BINDINGS)


@pytest.mark.parametrize("action", [action for _, action in ALL])
def test_every_key_has_an_action_of_the_application(action: str) -> None:
    assert hasattr(App, f"action_{action.partition('(')[0]}")


def test_every_change_has_a_key() -> None:
    named = re.findall(r"change\('(\w+)'\)", " ".join(action for _, action in ALL))
    assert sorted(named) == sorted(CHANGES)


# Names that Textual has for keys which people write otherwise.
WRITTEN = {"slash": "/", "less_than_sign": "<", "greater_than_sign": ">", "minus": "-"}


def test_the_page_of_help_names_every_key() -> None:
    text = "\n".join("".join(piece for _, piece in line) for line in keys.help_page())
    # F1 shows the page itself: the footer says so.
    words = {*text.split(), "F1"}
    for names, _ in ALL:
        written = {WRITTEN.get(name, name) for name in names.split(",")}
        # A letter is the key that makes it.
        assert written & words or {name.capitalize() for name in written} & words, names


def test_the_page_of_help_fits_a_screen() -> None:
    # With its frame.
    assert len(keys.help_page()) + 2 <= 24


@pytest.mark.parametrize(("width", "shown"), [(8, "F1 Help "), (15, "F1 Help "), (7, "")])
def test_the_footer_has_the_keys_that_fit(width: int, shown: str) -> None:
    assert "".join(text for _, text in keys.footer(None, width)) == shown


def test_a_filter_takes_the_footer() -> None:
    view = build(make_sample(document(14, 0)), None, Options(filter="we\x1bb"))
    text = "".join(text for _, text in keys.footer(view, 80))
    assert text == f"Filter: we?b  {view.selected} of 14 processes  Esc shows all"


def test_each_toggle_twice_is_nothing() -> None:
    options = Options()
    for name in ("tree", "invert", "rates"):
        once = CHANGES[name](options)
        assert once != options
        assert CHANGES[name](once) == options


def test_groupings_and_units_go_round() -> None:
    options = Options()
    for name, choices in (("group", Grouping), ("unit", Unit)):
        changed = options
        seen = set()
        for _ in choices:
            changed = CHANGES[name](changed)
            seen.add(changed)
        assert changed == options
        assert len(seen) == len(choices)


def test_another_grouping_unfolds_and_sorts_by_what_it_has() -> None:
    options = Options(grouping=Grouping.PROCESS, sort="pid", turned=frozenset({(1,)}))
    changed = CHANGES["group"](options)
    assert (changed.grouping, changed.sort, changed.turned) == (
        Grouping.OWNER,
        "mapped",
        frozenset(),
    )
    assert CHANGES["sort_by_name"](options).sort == "pid"
    assert CHANGES["sort_by_name"](changed).sort == "name"


def test_a_head_sorts_and_then_inverts() -> None:
    options = sort_by_head(Options(sort="name", inverted=True), "share")
    assert (options.sort, options.inverted) == ("mapped", False)
    assert sort_by_head(options, "mapped").inverted
    assert sort_by_next(sort_by_next(options, 1), -1) == options
