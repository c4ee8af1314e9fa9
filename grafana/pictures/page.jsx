// Draws one dashboard from live data: `/?dashboard=UID&from=SECONDS&to=SECONDS&NAME=VALUE...`.
// Panel plugins are part of Grafana's core and not on npm; what they are made of is.

import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { ThemeContext, VizOrientation, dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { createRoot } from 'react-dom/client';

import { dataOf, filledIn, theme } from './grafana.js';

const WIDTH = 1400;
const CELL_HEIGHT = 30;
const GAP = 8;
const HEAD = 56;
const CAPTION = 28;
const POINTS = 240;

function Graph({ panel, data, width, height, view }) {
  const timeRange = { from: dateTime(view.from * 1000), to: dateTime(view.to * 1000) };
  return (
    <TimeSeries
      frames={data}
      width={width}
      height={height}
      timeRange={{ ...timeRange, raw: timeRange }}
      timeZone="utc"
      legend={panel.options.legend}
      options={panel.options}
    />
  );
}

function displayValues(panel, data) {
  return getFieldDisplayValues({
    data,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    theme,
  });
}

function Cell({ panel, data, width, height }) {
  const [first] = displayValues(panel, data);
  return (
    <BigValue
      value={first.display}
      colorMode={panel.options.colorMode}
      graphMode={panel.options.graphMode}
      textMode="value"
      justifyMode="auto"
      width={width}
      height={height}
      theme={theme}
    />
  );
}

function Bars({ panel, data, width, height }) {
  const values = displayValues(panel, data);
  const each = Math.min(40, Math.floor(height / values.length));
  return values.map((value) => (
    <BarGauge
      key={value.display.title}
      value={value.display}
      field={value.field}
      display={value.view?.getFieldDisplayProcessor(value.colIndex)}
      orientation={VizOrientation.Horizontal}
      displayMode={panel.options.displayMode}
      alignmentFactors={getDisplayValueAlignmentFactors(values)}
      showUnfilled
      itemSpacing={6}
      width={width}
      height={each}
      theme={theme}
    />
  ));
}

function Table({ data, width, height }) {
  return <TableNG data={data[0]} width={width} height={height} enableVirtualization={false} />;
}

const LOOKS = { timeseries: Graph, stat: Cell, bargauge: Bars, table: Table };

function place({ x, y, w, h }) {
  const column = WIDTH / 24;
  return { left: x * column + GAP / 2, top: y * (CELL_HEIGHT + GAP), width: w * column - GAP, height: h * (CELL_HEIGHT + GAP) - GAP };
}

function Panel({ panel, data, view }) {
  const { left, top, width, height } = place(panel.gridPos);
  const box = { position: 'absolute', left, top, width, height };
  if (panel.type === 'row') {
    return <div style={{ ...box, fontSize: 18, fontWeight: 500, paddingTop: 6 }}>{panel.title}</div>;
  }
  const Look = LOOKS[panel.type];
  const empty = data.every((frame) => frame.length === 0);
  const absent = panel.fieldConfig.defaults.noValue;
  return (
    <div style={box}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(innerWidth, innerHeight) =>
          empty ? (
            <div className={absent ? 'absent' : 'no-data'}>{absent ?? `No data: ${panel.title}`}</div>
          ) : (
            <Look panel={panel} data={data} width={innerWidth} height={innerHeight} view={view} />
          )
        }
      </PanelChrome>
    </div>
  );
}

function Board({ board, answers, view }) {
  const bottom = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const height = bottom * (CELL_HEIGHT + GAP);
  const chosen = Object.entries(view.chosen).map(([name, value]) => `${name}: ${value}`);
  return (
    <div style={{ width: WIDTH + 2 * GAP, padding: GAP, boxSizing: 'border-box', background: theme.colors.background.canvas }}>
      <div style={{ height: HEAD, display: 'flex', alignItems: 'baseline', gap: 24 }}>
        <span style={{ fontSize: 22, fontWeight: 500 }}>{board.title}</span>
        <span style={{ color: theme.colors.text.secondary }}>{chosen.join('   ')}</span>
      </div>
      <div style={{ position: 'relative', height }}>
        {board.panels.map((panel, i) => (
          <Panel key={panel.id} panel={panel} data={answers[i]} view={view} />
        ))}
      </div>
      <div style={{ height: CAPTION, color: theme.colors.text.secondary, textAlign: 'right' }}>
        drawn with Grafana&apos;s UI components
      </div>
    </div>
  );
}

function viewOf(board, parameters) {
  const from = Number(parameters.get('from'));
  const to = Number(parameters.get('to'));
  const step = Math.max(1, Math.round((to - from) / POINTS));
  const chosen = Object.fromEntries(
    board.templating.list.map(({ name }) => [name, parameters.get(name)]).filter(([, value]) => value)
  );
  const variables = { ...chosen, __rate_interval: `${Math.max(15, 4 * step)}s`, __range: `${Math.round(to - from)}s` };
  return { from, to, step, chosen, variables };
}

/** JSON has no infinity: the first step is null there. Grafana does this when it loads a panel. */
function restoreThresholds(panel) {
  panel.fieldConfig.defaults.thresholds.steps[0].value = -Infinity;
}

async function draw() {
  const parameters = new URLSearchParams(location.search);
  await initPluginTranslations('ksmwatch');
  const board = await (await fetch(`/dashboards/${parameters.get('dashboard')}.json`)).json();
  board.panels.filter((panel) => panel.type !== 'row').forEach(restoreThresholds);
  const view = viewOf(board, parameters);
  const answers = await Promise.all(
    board.panels.map((panel) => (panel.type === 'row' ? null : dataOf(panel, view)))
  );
  board.panels.forEach((panel) => (panel.title = filledIn(panel.title, view.variables)));
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board board={board} answers={answers} view={view} />
    </ThemeContext.Provider>
  );
}

draw().catch((error) => {
  document.body.dataset.error = String(error.stack ?? error);
});
