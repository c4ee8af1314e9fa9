"""Pages that cover the table for a moment: lines of text, and the choice of a column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ksmwatch.top import columns
from ksmwatch.top.toned_text import Line
from ksmwatch.top.widgets import Lines


class LinesScreen(ModalScreen[None]):
    """Lines above everything, until a key is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,space,f1,h,question_mark,a,m,f10", "dismiss")
    ]

    def __init__(self, lines: Iterable[Line]) -> None:
        super().__init__()
        self._lines = list(lines)

    def compose(self) -> ComposeResult:
        yield Lines("page")

    def on_mount(self) -> None:
        self.query_one(Lines).show(self._lines)


class ColumnScreen(ModalScreen[str | None]):
    """Lets the user choose one of some columns."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f6,f10", "dismiss")]

    def __init__(self, choices: Iterable[columns.Column], current: str) -> None:
        super().__init__()
        self._choices = list(choices)
        self._current = current

    def compose(self) -> ComposeResult:
        """A list of the columns' heads."""
        yield OptionList(*(Option(column.head, column.key) for column in self._choices))

    def on_mount(self) -> None:
        """Start at the current column."""
        keys = [column.key for column in self._choices]
        self.query_one(OptionList).highlighted = keys.index(self._current)

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)
