"""`ksmwatch top` in a terminal. A worker posts readings; the app draws them. Loads Textual."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import textual.app
from textual import events, on
from textual.app import ComposeResult, ScreenStackError
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.css.query import NoMatches
from textual.message import Message
from textual.widgets import Input

from ksmwatch.history.times import whole
from ksmwatch.terminal_text import clean
from ksmwatch.top import columns, details, header, keys
from ksmwatch.top.alerts import alerts_of
from ksmwatch.top.columns import duration
from ksmwatch.top.host_figures import figures
from ksmwatch.top.option_changes import CHANGES, sort_by, sort_by_head, sort_by_next
from ksmwatch.top.rows import build
from ksmwatch.top.sample import Sample
from ksmwatch.top.screens import ColumnScreen, LinesScreen
from ksmwatch.top.source import Areas, Fetched, Posted, Source, Unmoved, Worker
from ksmwatch.top.sparkline_points import SparklinePoints
from ksmwatch.top.timeline import TRACE_STEP, Move, Timeline
from ksmwatch.top.toned_text import Line, Tone
from ksmwatch.top.view import Options, View
from ksmwatch.top.widgets import Lines, Table

# From this width on, the details are beside the table.
_WIDE = 140
_DETAILS_HEIGHT, _DETAILS_WIDTH = 9, 56
# The lines of a page of areas that are not areas.
_FRAME = 6
# An answer is late after this many intervals between readings.
_LATE = 3
# On a lower screen, the table gets all of it.
_LOW = 20
# The share of the screen's height that alerts may take.
_ALERTS_SHARE = 8
_STYLES = """
* { scrollbar-size-vertical: 1; }
Lines { width: 1fr; height: auto; }
#body { height: 1fr; layout: vertical; }
#body.wide { layout: horizontal; }
Table { width: 1fr; height: 1fr; }
#details { border-top: solid ansi_default; }
.wide #details { border-top: none; border-left: solid ansi_default; padding: 0 0 0 1; }
#filter { display: none; height: 1; border: none; padding: 0; background: ansi_default; }
#filter:focus { border: none; }
ModalScreen { align: center middle; background: transparent; }
#page { width: 78; height: auto; max-height: 100%; border: solid ansi_default; padding: 0 1;
        background: ansi_default; }
OptionList { width: 24; height: auto; max-height: 20; border: solid ansi_default;
             background: ansi_default; color: ansi_default; }
OptionList > .option-list--option-highlighted,
OptionList:focus > .option-list--option-highlighted { color: ansi_default;
             background: ansi_default; text-style: reverse; }
"""


class Arrived(Message):
    """The worker has a reading."""

    def __init__(self, reading: Fetched) -> None:
        super().__init__()
        self.reading = reading


class Answered(Message):
    """The worker has the requested areas, or could not move."""

    def __init__(self, answer: Areas | Unmoved) -> None:
        super().__init__()
        self.answer = answer


def _answer_lines(answer: Areas | Unmoved, view: View | None, rows: int) -> list[Line]:
    if isinstance(answer, Unmoved):
        return [[(Tone.BAD, clean(answer.problem))]]
    lines: list[Line] = [[(Tone.LABEL, f"KSM pages of process {answer.pid}")], []]
    if answer.problem is not None:
        lines.append([(Tone.BAD, clean(answer.problem))])
    elif view is not None:
        lines += details.areas(answer.found, view, rows)
    return lines


def _past_words(sample: Sample) -> str:
    return f"{whole(sample.time)}, {duration(time.time() - sample.time)} ago"


class App(textual.app.App[None]):
    ENABLE_COMMAND_PALETTE = False
    CSS = _STYLES
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, action, priority=True) for key, action in keys.URGENT),
        *(Binding(key, action) for key, action in keys.BINDINGS),
    ]

    def __init__(
        self, source: Source, options: Options, seconds: float, timeline: Timeline | None = None
    ) -> None:
        """Watch a source, and read it at this interval in seconds. `timeline`: its history."""
        # The terminal's own colours, dark or light.
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.options = options
        self._source = source
        self._seconds = seconds
        self._worker = Worker(source, seconds, self._post, timeline)
        self._sample: Sample | None = None
        self._previous: Sample | None = None
        self._view: View | None = None
        self._past_points = SparklinePoints()
        self._problem: str | None = None
        self._received = 0.0
        self._paused = False
        self._past = False
        self._with_details = True

    def _post(self, what: Posted) -> None:
        """Called on the worker's thread."""
        self.post_message(Arrived(what) if isinstance(what, Fetched) else Answered(what))

    def compose(self) -> ComposeResult:
        yield Lines("header")
        with Container(id="body"):
            yield Table()
            yield Lines("details")
        # Text typed before the input knows that it has the focus must not be treated as selected.
        hint = "part of a name, id, unit, kind; or a pid"
        yield Input(id="filter", placeholder=hint, select_on_focus=False)
        yield Lines("footer")

    def on_mount(self) -> None:
        self.query_one(Table).focus()
        self._worker.start()
        # The age of the shown data grows by itself.
        self.set_interval(1.0, self._each_second)
        self._draw()

    def on_unmount(self) -> None:
        """Detach what the source has attached."""
        self._worker.stop()

    @on(Arrived)
    def take(self, event: Arrived) -> None:
        """Take a reading. While paused, only problems are shown."""
        reading = event.reading
        self._problem = reading.problem
        if reading.sample is None or self._paused:
            self._draw_header()
            return
        before = reading.previous if reading.past or self._past else self._sample
        self._previous, self._sample = before, reading.sample
        self._received, self._past = reading.at, reading.past
        if reading.traces is not None:
            self._past_points.begin(reading.traces, TRACE_STEP)
        self._past_points.add(reading.sample, self.options.grouping)
        self._draw()

    def _show(self, options: Options) -> None:
        """Draw the same sample with other options."""
        self.options = options
        self._draw()

    # -- Drawing -----------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Put the details beside or below the table, depending on the size."""
        wide = event.size.width >= _WIDE
        self.query_one("#body").set_class(wide, "wide")
        styles = self.query_one("#details").styles
        styles.width = _DETAILS_WIDTH if wide else "1fr"
        styles.height = "1fr" if wide else "auto"
        styles.max_height = "100%" if wide else _DETAILS_HEIGHT
        self._draw()

    def _draw(self) -> None:
        if self._sample is not None:
            self._view = build(self._sample, self._previous, self.options)
            self.query_one(Table).show(self._view)
        self._draw_header()
        self._draw_details()

    def _each_second(self) -> None:
        """Update the age. At the end, the timer may still fire when the widgets have gone."""
        with suppress(NoMatches, ScreenStackError):
            self._draw_header()

    def _draw_header(self) -> None:
        age = time.monotonic() - self._received if self._sample else None
        late = age is not None and age > _LATE * self._seconds + 1
        past = _past_words(self._sample) if self._past and self._sample else None
        status = header.Status(self._problem, age, self._paused, late, past)
        lines = header.status_lines(status)
        if self._sample is None:
            lines = lines or [[(Tone.LABEL, f"Waiting for {self._source.label}")]]
        else:
            known = figures(self._sample, self._previous)
            found = alerts_of(self._sample, known, self.options)
            room = max(1, self.size.height // _ALERTS_SHARE)
            lines = [
                header.title(self._sample, self._source.label),
                *header.lines(self._sample, known, self.options, self.size.width),
                *lines,
                *header.alert_lines(found, room),
            ]
        self.query_one("#header", Lines).show(lines)
        self._draw_footer()

    def _draw_footer(self) -> None:
        self.query_one("#footer", Lines).show([keys.footer(self._view, self.size.width)])

    def _draw_details(self) -> None:
        pane = self.query_one("#details", Lines)
        row = self.query_one(Table).row
        pane.display = self._with_details and self.size.height >= _LOW
        if row is None or self._view is None:
            pane.show([])
            return
        width = pane.size.width or self.size.width
        past = self._past_points
        pane.show(details.lines(row, self._view, past.of(row), width, past.seconds_of(row)))

    @on(Table.Moved)
    def moved(self) -> None:
        """Show the details of another row."""
        self._draw_details()

    # -- Keys --------------------------------------------------------------------------------

    def action_help(self) -> None:
        self.push_screen(LinesScreen(keys.help_page()))

    def action_areas(self) -> None:
        """Ask for the areas of the selected process; they are shown when they arrive."""
        row = self.query_one(Table).row
        if row is not None and row.process is not None:
            self._worker.ask(row.process.pid)

    @on(Answered)
    def show_answer(self, event: Answered) -> None:
        """Show areas above everything else, or why there is no history."""
        rows = max(1, self.size.height - _FRAME)
        self.push_screen(LinesScreen(_answer_lines(event.answer, self._view, rows)))

    def action_alerts(self) -> None:
        if self._sample is None:
            return
        known = figures(self._sample, self._previous)
        found = alerts_of(self._sample, known, self.options)
        nothing: list[Line] = [[(Tone.GOOD, "Nothing is wrong.")]]
        self.push_screen(LinesScreen(header.alert_lines(found, len(found)) or nothing))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys of the filter outside of it."""
        typing = isinstance(self.focused, Input)
        if action == "filter":
            return not typing and len(self.screen_stack) == 1
        if action == "keep_filter":
            return typing
        if action == "clear_filter":
            return len(self.screen_stack) == 1
        return True

    def action_filter(self) -> None:
        box = self.query_one(Input)
        box.display = True
        self.screen.set_focus(box)

    def action_keep_filter(self) -> None:
        """Return to the table."""
        self.query_one(Input).display = False
        self.screen.set_focus(self.query_one(Table))

    @on(Input.Changed)
    def filter_changed(self, event: Input.Changed) -> None:
        """Filter as the user types."""
        self._show(replace(self.options, filter=event.value))

    def action_clear_filter(self) -> None:
        """Show everything again."""
        self.query_one(Input).value = ""
        self.action_keep_filter()

    def action_change(self, name: str) -> None:
        """Apply one of option_changes.CHANGES."""
        self._show(CHANGES[name](self.options))

    def action_fold(self) -> None:
        """Fold or unfold the row under the cursor."""
        row = self.query_one(Table).row
        if row is not None and row.fold:
            self._show(replace(self.options, turned=self.options.turned ^ {row.key}))

    def action_choose_sort(self) -> None:
        """Show a list of columns."""
        choices = columns.sortable(self.options.grouping)
        self.push_screen(ColumnScreen(choices, self.options.sort), self._sort_by)

    def _sort_by(self, key: str | None) -> None:
        if key is not None:
            self.action_sort(key)

    def action_sort(self, key: str) -> None:
        self._show(sort_by(self.options, key))

    def action_next_sort(self, by: int) -> None:
        """Sort by the next column, or the previous one."""
        self._show(sort_by_next(self.options, by))

    @on(Table.HeadClicked)
    def head_clicked(self, event: Table.HeadClicked) -> None:
        """Sort by that column, or reverse the order."""
        self._show(sort_by_head(self.options, event.column.key))

    def action_pause(self) -> None:
        """Freeze the display, or resume; in the past, return to now."""
        if self._past:
            self._worker.ask(Move())
            return
        self._paused = not self._paused
        self._draw_header()

    def action_go(self, moments: int, seconds: int) -> None:
        """Step through the history."""
        self._paused = False
        self._worker.ask(Move(moments, seconds))

    def action_details(self) -> None:
        """Show or hide the details."""
        self._with_details = not self._with_details
        self._draw_details()
