"""Draws lines of toned text, and the table. Only the visible rows are rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ksmwatch.top import columns
from ksmwatch.top.columns import Column
from ksmwatch.top.toned_text import Line, Tone
from ksmwatch.top.values import lags, state_of
from ksmwatch.top.view import Row, RowKey, View

# The terminal's own colours. These read well on dark and light terminals; yellow and blue do
# not. A word or a sign goes with every colour.
_PLAIN = Style()
_STYLES = {
    Tone.PLAIN: _PLAIN,
    Tone.LABEL: Style(dim=True),
    Tone.TITLE: Style(bold=True),
    Tone.GOOD: Style(color="green"),
    Tone.WARN: Style(color="magenta", bold=True),
    Tone.BAD: Style(color="red", bold=True),
}
_HEAD, _SORTED = Style(reverse=True), Style(reverse=True, bold=True, underline=True)
_CURSOR = Style(reverse=True, bold=True)
_WHEEL = 3
_STATES = {"left": Tone.BAD, "exact": Tone.PLAIN}


class Lines(Widget):
    """Lines of text, cut at the width. As high as its lines."""

    def __init__(self, name: str) -> None:
        super().__init__(id=name)
        self._lines: Sequence[Line] = ()

    @property
    def text(self) -> str:
        """The shown text, without tones."""
        return "\n".join("".join(piece for _, piece in line) for line in self._lines)

    def show(self, lines: Sequence[Line]) -> None:
        resized = len(lines) != len(self._lines)
        self._lines = lines
        self.refresh(layout=resized)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, _PLAIN)
        segments = [Segment(text, _STYLES[tone]) for tone, text in self._lines[y]]
        return Strip(segments).adjust_cell_length(width, _PLAIN)


class Table(Widget, can_focus=True):
    """The rows of a view below their heads, with a cursor that stays on its row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000000)", show=False),
        Binding("end", "move(1000000000)", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row."""

    class HeadClicked(Message):
        """A head was clicked: sort by that column."""

        def __init__(self, column: Column) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__(id="table")
        self._view: View | None = None
        self._columns: tuple[Column, ...] = ()
        # Under the cursor, and on the first line.
        self._at = 0
        self._top = 0
        # The row that the user has chosen; None: always the first.
        self._chosen: RowKey | None = None

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        rows = self._view.rows if self._view else ()
        return rows[self._at] if rows else None

    def show(self, view: View) -> None:
        """Show another view. The cursor follows its row, or stays at its place."""
        self._view = view
        self._fit()
        self._at = self._find(view.rows)
        self._follow_cursor()

    def _find(self, rows: Sequence[Row]) -> int:
        if self._chosen is None:
            return 0
        if self._at < len(rows) and rows[self._at].key == self._chosen:
            return self._at
        for at, row in enumerate(rows):
            if row.key == self._chosen:
                return at
        return max(0, min(self._at, len(rows) - 1))

    def _fit(self) -> None:
        if self._view is not None:
            self._columns = columns.chosen(self._view.options, self.size.width)

    def on_resize(self, event: events.Resize) -> None:
        """Choose the columns that fit now."""
        self._fit()
        self._follow_cursor()

    @property
    def _height(self) -> int:
        """The number of rows that fit below the heads."""
        return max(1, self.size.height - 1)

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        rows = self._view.rows if self._view else ()
        if rows:
            self._choose(max(0, min(self._at + by, len(rows) - 1)))

    def action_page(self, by: int) -> None:
        """Move the cursor by the number of visible rows."""
        self.action_move(by * max(1, self._height - 1))

    def _choose(self, at: int) -> None:
        assert self._view is not None
        self._at = at
        self._chosen = self._view.rows[at].key if at else None
        self._follow_cursor()
        self.post_message(self.Moved())

    def _follow_cursor(self) -> None:
        self._top = max(self._at - self._height + 1, min(self._top, self._at))
        self._begin_at(self._top)

    def _begin_at(self, top: int) -> None:
        """Show rows from there, but not beyond the point where the last row is on the last line."""
        rows = len(self._view.rows) if self._view else 0
        self._top = max(0, min(top, rows - self._height))
        self.refresh()

    def on_mouse_scroll_down(self) -> None:
        """The wheel moves the rows, not the cursor."""
        self._begin_at(self._top + _WHEEL)

    def on_mouse_scroll_up(self) -> None:
        self._begin_at(self._top - _WHEEL)

    def on_click(self, event: events.Click) -> None:
        """Choose a row, or a column to sort by."""
        if self._view is None:
            return
        if event.y:
            at = self._top + event.y - 1
            if at < len(self._view.rows):
                self._choose(at)
            return
        end = 0
        for column in self._columns:
            end += column.width + 1
            if event.x < end:
                self.post_message(self.HeadClicked(column))
                return

    def render_line(self, y: int) -> Strip:
        """The heads, then the rows from the scroll position on."""
        width = self.size.width
        view = self._view
        if view is None:
            return Strip.blank(width, _PLAIN)
        if not y:
            return Strip(self._head(view)).adjust_cell_length(width, _HEAD)
        at = self._top + y - 1
        if at >= len(view.rows):
            return Strip.blank(width, _PLAIN)
        cursor = at == self._at
        segments = self._row(view.rows[at], view, cursor=cursor)
        return Strip(segments).adjust_cell_length(width, _CURSOR if cursor else _PLAIN)

    def _head(self, view: View) -> list[Segment]:
        texts = columns.heads(self._columns, view.options)
        sort = view.options.sort
        segments = []
        for column, text in zip(self._columns, texts, strict=True):
            segments.append(Segment(text, _SORTED if column.key == sort else _HEAD))
            segments.append(Segment(" ", _HEAD))
        return segments

    def _row(self, row: Row, view: View, *, cursor: bool) -> list[Segment]:
        texts = columns.line(row, self._columns, view)
        if cursor:
            return [Segment(" ".join(texts), _CURSOR)]
        return [
            Segment(f"{text} ", _STYLES[_tone(row, column)])
            for column, text in zip(self._columns, texts, strict=True)
        ]


def _tone(row: Row, column: Column) -> Tone:
    if column.key == "lag" and lags(row.of):
        return Tone.WARN
    if column.key == "state":
        return _STATES.get(state_of(row.of), Tone.WARN)
    if column.key == "stray" and row.of.stray:
        return Tone.WARN
    if column.key == "name" and row.process is None:
        return Tone.TITLE
    return Tone.PLAIN
