"""What a dashboard is made of, as data, and how that becomes Grafana's JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from string import ascii_uppercase
from typing import TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as graph
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "ksmwatch"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "gray"

_Builder: TypeAlias = graph.Panel | stat.Panel | bargauge.Panel | table.Panel


class Kind(Enum):
    """What a panel looks like. BARS: one bar a series, now. CELL: one value, now."""

    GRAPH = auto()
    STACK = auto()
    CELL = auto()
    BARS = auto()
    TABLE = auto()


@dataclass(frozen=True)
class Column:
    """One column of a table: the field that it shows, and how."""

    source: str
    title: str
    # Every digit, with separators: counts are exact to the page.
    unit: str = "locale"
    states: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    # Where a click leads, see `drill`.
    link: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel.

    `queries`: expressions by legend. In a table the legends only tell them apart; its columns
    are labels and `Value #A`, `Value #B` and so on. `more`: uid of the dashboard that tells more.
    `steps`: colour from each value on, the first from the beginning. `states`: text and colour
    by value. `colors`: of the series whose names say whether all is well. `absent`: what is shown
    without data, on a host where that is as it should be.
    """

    kind: Kind
    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    more: str
    width: int = 12
    height: int = 8
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    states: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    columns: Sequence[Column] = ()
    link: str = ""
    colors: Mapping[str, str] = field(default_factory=dict)
    absent: str = ""


def cell(
    title: str,
    description: str,
    unit: str,
    queries: Mapping[str, str],
    more: str,
    *,
    height: int = 4,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    states: Mapping[str, tuple[str, str]] | None = None,
) -> Panel:
    """One value, now: six of them make a row."""
    return Panel(
        Kind.CELL,
        title,
        description,
        unit,
        queries,
        more,
        width=4,
        height=height,
        steps=steps,
        states=states or {},
    )


@dataclass(frozen=True)
class Variable:
    """A choice that the reader has. `query`: of values; `choices`: if they are fixed."""

    name: str
    label: str
    query: str = ""
    choices: Sequence[str] = ()
    several: bool = False


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels by the row's title."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Mapping[str, Sequence[Panel]]


def drill(uid: str, **values: str) -> str:
    """A link to a dashboard with these values of variables; the time range is kept."""
    chosen = "".join(f"&var-{name}={value}" for name, value in values.items())
    return f"/d/{uid}?${{__url_time_range}}&var-datasource=${{datasource}}&var-job=${{job}}{chosen}"


# ---- from data to the SDK ----


def make(board: Board) -> models.Dashboard:
    """The dashboard as Grafana has it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_siblings())
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for variable in board.variables:
        made.with_variable(_variable(variable))
    number = 0
    for title, panels in board.rows.items():
        number += 1
        made.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(_panel(panel, number))
    return made.build()


def _siblings() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("KSM dashboards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )


def _variable(variable: Variable) -> dashboard.QueryVariable | dashboard.CustomVariable:
    if variable.choices:
        first = variable.choices[0]
        return (
            dashboard.CustomVariable(variable.name)
            .label(variable.label)
            .values(",".join(variable.choices))
            .current(models.VariableOption(text=first, value=first))
        )
    made = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(SOURCE)
        .query({"query": variable.query, "refId": variable.name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
    )
    if variable.several:
        everything = models.VariableOption(text="All", value="$__all")
        made.multi(multi=True).include_all(include_all=True).all_value(".*").current(everything)
    return made


def _panel(panel: Panel, number: int) -> _Builder:
    made = _look(panel)
    made.id(number).title(panel.title).description(panel.description)
    made.unit(panel.unit).datasource(SOURCE).span(panel.width).height(panel.height)
    made.links([_more(panel.more)])
    made.thresholds(_thresholds(panel.steps))
    if panel.states:
        made.mappings([_states(panel.states)])
    if panel.absent:
        made.no_value(panel.absent)
    if panel.link:
        made.data_links([_data_link(panel.link)])
    for name, color in panel.colors.items():
        fixed = {"mode": "fixed", "fixedColor": color}
        made.override_by_name(name, [models.DynamicConfigValue("color", fixed)])
    for letter, (legend, expression) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        made.with_target(_query(letter, legend, expression, panel.kind))
    return made


def _more(uid: str) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Other dashboards")
        .type(models.DashboardLinkType.LINK)
        .url(f"/d/{uid}")
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )


def _data_link(url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink("Details").type(models.DashboardLinkType.LINK).url(url)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def _states(states: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap(
        {
            value: models.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(states.items())
        }
    )


def _query(letter: str, legend: str, expression: str, kind: Kind) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend)
    query.datasource(SOURCE)
    if kind in (Kind.GRAPH, Kind.STACK):
        return query.range()
    if kind is Kind.TABLE:
        query.format(PromQueryFormat.TABLE)
    return query.instant()


# ---- looks ----


def _look(panel: Panel) -> _Builder:
    if panel.kind is Kind.TABLE:
        return _table(panel)
    if panel.kind is Kind.GRAPH and panel.unit == "percentunit":
        # Of nothing but zeros, Grafana's axis would go to 10,000 %.
        return _graph().axis_soft_min(0).axis_soft_max(0.1)
    makers: dict[Kind, Callable[[], _Builder]] = {
        Kind.GRAPH: _graph,
        Kind.STACK: _stack,
        Kind.CELL: _cell,
        Kind.BARS: _bars,
    }
    return makers[panel.kind]()


def _graph() -> graph.Panel:
    return (
        graph.Panel()
        .line_width(2)
        .fill_opacity(5)
        .show_points(looks.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=True)
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(looks.TooltipDisplayMode.MULTI)
            .sort(looks.SortOrder.DESCENDING)
        )
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    )


def _stack() -> graph.Panel:
    stacking = common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A")
    return _graph().fill_opacity(40).line_width(1).stacking(stacking).min(0)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False)


def _cell() -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(_last())
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _bars() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .reduce_options(_last())
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .min(0)
    )


def _table(panel: Panel) -> table.Panel:
    """One row per set of labels: the answers of the queries side by side.

    Other fields go first, because rows are merged only if all that is left is equal.
    """
    made = (
        table.Panel()
        .with_transformation(
            models.DataTransformerConfig(
                id_val="filterFieldsByName",
                options={"include": {"names": [column.source for column in panel.columns]}},
            )
        )
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "indexByName": {c.source: i for i, c in enumerate(panel.columns)},
                    "renameByName": {c.source: c.title for c in panel.columns},
                },
            )
        )
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )
    for column in panel.columns:
        made.override_by_name(column.title, _properties(column))
    return made


def _properties(column: Column) -> list[models.DynamicConfigValue]:
    properties = [models.DynamicConfigValue("unit", column.unit)]
    if column.states:
        properties += [
            models.DynamicConfigValue("mappings", [_states(column.states)]),
            models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ]
    if column.link:
        properties.append(models.DynamicConfigValue("links", [_data_link(column.link).build()]))
    return properties
