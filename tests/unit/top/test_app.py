"""The terminal application, driven by keys, without a terminal."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import Input, OptionList

from demo import screenshot
from ksmwatch.top.app import App
from ksmwatch.top.view import Grouping, Options
from ksmwatch.top.widgets import Table
from tests.made_up_host import document
from tests.played_top import Host, Screen, play


def test_it_shows_owners_and_closes_its_source() -> None:
    async def script(screen: Screen) -> None:
        assert screen.rows[0].split() == [
            *("KIND", "NAME", "PROCS", "MAPPED▼", "KERNEL", "LAG", "CAME", "WENT"),
        ]
        assert len(screen.rows) == 8
        assert screen.below.startswith("ksmwatch live, kernel 7.3.9-test, an invented host")
        assert "F10 Quit" in screen.below
        assert "history" in screen.lines("details")

    assert play(script).closed


def test_a_filter_works_as_one_types() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("slash", "w", "e")
        assert screen.names == ["web"]
        await screen.press("x")
        assert screen.rows[1:] == []
        assert "0 of 14" in screen.below
        await screen.press("backspace", "enter", "g")
        # Keys are keys again.
        assert screen.app.options.grouping is Grouping.KIND
        assert screen.names == ["vm"]
        assert "Filter: we  2 of 14 processes" in screen.below
        await screen.press("escape")
        assert len(screen.names) == 6
        assert not screen.app.query_one(Input).display

    play(script)


@pytest.mark.parametrize("key", ["f3", "f4", "slash"])
def test_keys_of_the_filter(key: str) -> None:
    async def script(screen: Screen) -> None:
        await screen.press(key, "p", "g", "escape")
        assert screen.app.options.filter == ""
        assert screen.app.focused is screen.table

    play(script)


def test_sorting() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("N")
        assert screen.pids == sorted(screen.pids)
        await screen.press("I")
        assert screen.pids == sorted(screen.pids, reverse=True)
        await screen.press("M", "greater_than_sign")
        assert screen.app.options.sort == "kernel"
        assert screen.app.options.inverted is False
        await screen.press("less_than_sign", "less_than_sign")
        assert screen.app.options.sort == "owner"
        await screen.press("P")
        assert "CAME▼" in screen.rows[0]

    play(script, grouping=Grouping.PROCESS, size=(100, 30))


def test_a_column_is_chosen_from_a_list() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("f6")
        listed = screen.app.screen.query_one(OptionList)
        assert listed.highlighted is not None
        assert listed.get_option_at_index(listed.highlighted).id == "mapped"
        await screen.press("down", "down", "enter")
        assert "KERNEL▼" in screen.rows[0]
        await screen.press("f6", "escape")
        assert "KERNEL▼" in screen.rows[0]

    play(script)


def test_heads_are_clicked() -> None:
    async def script(screen: Screen) -> None:
        at = screen.rows[0].index("LAG")
        await screen.pilot.click(Table, offset=(at, 0))
        assert screen.app.options.sort == "lag"
        await screen.pilot.click(Table, offset=(at, 0))
        assert screen.app.options.inverted

    play(script)


def test_groupings_in_turn() -> None:
    async def script(screen: Screen) -> None:
        seen = []
        for _ in Grouping:
            await screen.press("g")
            seen.append(screen.app.options.grouping)
        assert set(seen) == set(Grouping)

    play(script)


def test_a_column_that_a_grouping_does_not_have_is_not_sorted_by() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("g")
        assert screen.app.options.sort == "mapped"

    play(script, grouping=Grouping.PROCESS, sort="pid")


def test_folding_and_trees() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("enter")
        assert len(screen.names) == 7 + 2
        await screen.press("minus")
        assert len(screen.names) == 7
        await screen.press("f5")
        assert len(screen.names) == 7 + 14
        await screen.press("f5")
        assert len(screen.names) == 7

    play(script, size=(80, 50))


def test_details_are_of_the_selected_row() -> None:
    async def script(screen: Screen) -> None:
        names = screen.names
        await screen.press("down", "down")
        assert names[2] in screen.lines("details")
        await screen.press("d")
        assert not screen.app.query_one("#details").display
        assert screen.app.query_one(Table).size.height > 15

    play(script)


def test_the_cursor_stays_with_its_row() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("down", "down")
        row = screen.table.row
        assert row is not None
        await screen.press("I")
        assert screen.table.row is not None
        assert screen.table.row.key == row.key
        await screen.press("home")
        first = screen.table.row
        await screen.press("I")
        # The first row stays first.
        assert screen.table.row.key != first.key

    play(script)


def test_a_row_that_goes_leaves_the_cursor_where_it_was() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("end")
        await screen.press("slash", "k", "v", "m", "enter")
        assert screen.table.row is not None
        assert screen.table.row.process is not None
        assert screen.table.row.process.name == "kvm"
        await screen.press("f4", "z", "z", "enter")
        assert screen.table.row is None
        assert screen.lines("details") == ""
        await screen.press("down", "enter", "end")

    play(script, grouping=Grouping.PROCESS)


def test_a_long_table_scrolls() -> None:
    async def script(screen: Screen) -> None:
        height = len(screen.rows) - 1
        assert screen.pids[0] == 1000
        await screen.press("pagedown")
        assert 1000 + height - 1 in screen.pids
        await screen.press("end")
        assert screen.pids[-1] == 1199
        assert len(screen.pids) == height
        await screen.press("up", "home")
        assert screen.pids[0] == 1000

    play(script, 200, grouping=Grouping.PROCESS, sort="pid")


def test_the_wheel_moves_rows_and_a_click_chooses_one() -> None:
    async def script(screen: Screen) -> None:
        screen.table.on_mouse_scroll_down()
        assert screen.pids[0] == 1003
        screen.table.on_mouse_scroll_up()
        screen.table.on_mouse_scroll_up()
        assert screen.pids[0] == 1000
        await screen.pilot.click(Table, offset=(5, 3))
        assert screen.table.row is not None
        assert screen.table.row.key[0] == 1002
        # Below the last row is nothing to choose.
        await screen.press("slash", "m", "e", "m", "enter")
        await screen.pilot.click(Table, offset=(5, 9))
        assert screen.table.row is not None

    play(script, 20, grouping=Grouping.PROCESS, sort="pid")


def test_rates_and_units() -> None:
    async def script(screen: Screen) -> None:
        assert "CAME/s" not in screen.rows[0]
        await screen.press("r", "u")
        await screen.read()
        assert "CAME/s" in screen.rows[0]
        assert "GiB exact" in screen.below
        await screen.press("u")
        assert "pages exact" in screen.below
        last = next(row for row in screen.rows if "memtest" in row)
        # Process 6 merges 6 pages in two seconds and process 13 13.
        assert last.split()[-2:] == ["9.5", "1"]

    play(script)


def test_pause() -> None:
    async def script(screen: Screen) -> None:
        before = screen.rows
        await screen.press("p")
        await screen.read()
        assert screen.rows == before
        assert "! PAUSED. Shown: " in screen.below
        await screen.press("space")
        await screen.read()
        assert screen.rows != before
        assert "PAUSED" not in screen.below

    play(script)


def test_a_lost_daemon_is_said_and_comes_back() -> None:
    async def script(screen: Screen) -> None:
        before = screen.rows
        screen.host.problem = "No daemon answers."
        await screen.read()
        assert "! LOST. Shown: " in screen.below
        assert "No daemon answers." in screen.below
        assert screen.rows == before
        screen.host.problem = None
        await screen.read()
        assert "LOST" not in screen.below

    play(script)


def test_without_any_answer_there_is_a_reason() -> None:
    async def run() -> None:
        host = Host(1)
        host.problem = "Nobody."
        async with App(host, Options(), 3600).run_test() as pilot:
            screen = Screen(pilot, host)
            while "Nobody." not in screen.below:
                await pilot.pause(0.01)
            # No key has anything to work on, and none crashes.
            for key in ("enter", "a", "down", "N", "g", "r", "f5", "t", "end", "f6", "escape"):
                await screen.press(key)

    asyncio.run(run())


def test_help_and_alerts() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("f1")
        assert "PTEs that map a KSM page" in screen.lines("page")
        assert screen.app.screen.query_one("#page").region.bottom <= 24
        await screen.press("q")
        await screen.press("a")
        assert screen.lines("page") == "Nothing is wrong."
        await screen.press("escape")
        assert len(screen.app.screen_stack) == 1

    play(script)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (139, 40), (140, 40), (220, 60), (40, 10)])
def test_sizes(size: tuple[int, int]) -> None:
    async def script(screen: Screen) -> None:
        width, height = size
        table, details = (screen.app.query_one(name) for name in ("#table", "#details"))
        assert (table.region.right < width) is (width >= 140)
        assert details.region.bottom <= height
        assert details.display is (height >= 20)
        # It is drawn, every line as wide as the screen.
        for y in range(table.size.height):
            assert screen.table.render_line(y).cell_length == table.size.width
        await screen.pilot.resize_terminal(80, 24)
        await screen.pilot.pause()
        assert table.size.width == 80
        assert len(screen.rows) == 8

    play(script, size=size)


def test_a_hostile_name_is_drawn_harmless() -> None:
    async def script(screen: Screen) -> None:
        made = document(2)
        bad = "\x1b[2J\n\x9b\u202e\udcff"
        made["processes"][0] |= {"name": bad, "comm": bad}
        made["processes"][0]["owner"] |= {"name": bad, "id": bad}
        screen.host.read = lambda: made  # type: ignore[method-assign]
        await screen.read()
        await screen.press("N")
        for text in (*screen.rows, *screen.below.splitlines()):
            assert text.isprintable()

    play(script, grouping=Grouping.PROCESS)


def test_the_picture_in_the_documentation_is_of_this_version() -> None:
    shown = screenshot.texts(screenshot.PATH.read_text())
    assert shown == screenshot.texts(asyncio.run(screenshot.draw()))
    assert any("postgresql.service" in text for text in shown)


def test_quit() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("q")
        assert screen.app.return_code == 0

    assert play(script).closed


def test_areas_of_a_process_are_asked_for_and_shown() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("m")
        while len(screen.app.screen_stack) == 1:
            await screen.pilot.pause(0.01)
        lines = screen.lines("page").splitlines()
        assert lines[0] == f"KSM pages of process {screen.pids[0]}"
        assert lines[3].startswith("55d000000000-55d000800000")
        assert lines[3].endswith("[heap]")
        assert lines[4].endswith("[heap]  not mergeable")
        await screen.press("escape")
        screen.host.problem = "Gone."
        await screen.press("m")
        while len(screen.app.screen_stack) == 1:
            await screen.pilot.pause(0.01)
        assert "Gone." in screen.lines("page")

    play(script, grouping=Grouping.PROCESS)


def test_an_owner_has_no_areas_of_its_own() -> None:
    async def script(screen: Screen) -> None:
        await screen.press("m", "u")
        assert len(screen.app.screen_stack) == 1

    play(script)
