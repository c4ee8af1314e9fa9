// What Grafana does between the dashboard's JSON and the components, as far as our dashboards
// need it: registries, queries to Prometheus, frames, field configuration.

import {
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createDataFrame,
  createTheme,
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  identityOverrideProcessor,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  thresholdsOverrideProcessor,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

export const theme = createTheme({ colors: { mode: 'dark' } });

const PROCESSORS = {
  displayName: displayNameOverrideProcessor,
  links: dataLinksOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
};
const STANDARD = [
  'color', 'decimals', 'displayName', 'links', 'mappings', 'max', 'min', 'noValue', 'thresholds', 'unit',
];
const CUSTOM = [
  'axisPlacement', 'barAlignment', 'cellOptions', 'drawStyle', 'fillOpacity', 'gradientMode', 'hideFrom',
  'lineInterpolation', 'lineStyle', 'lineWidth', 'pointSize', 'scaleDistribution', 'showPoints', 'spanNulls',
  'stacking',
];

function property(id, path, isCustom) {
  return {
    id,
    path,
    isCustom,
    name: id,
    editor: () => null,
    override: () => null,
    process: PROCESSORS[path] ?? identityOverrideProcessor,
    shouldApply: () => true,
    settings: {},
  };
}

standardFieldConfigEditorRegistry.setInit(() => STANDARD.map((id) => property(id, id, false)));
const fieldConfigRegistry = new FieldConfigOptionsRegistry();
standardFieldConfigEditorRegistry.list().forEach((each) => fieldConfigRegistry.register(each));
CUSTOM.forEach((path) => fieldConfigRegistry.register(property(`custom.${path}`, path, true)));
standardTransformersRegistry.setInit(() =>
  ['filterFieldsByNameTransformer', 'mergeTransformer', 'organizeFieldsTransformer'].map((name) => ({
    id: standardTransformers[name].id,
    name,
    transformation: async () => standardTransformers[name],
  }))
);

/** `text` with the values of variables. */
export function filledIn(text, variables) {
  return Object.keys(variables)
    .sort((a, b) => b.length - a.length)
    .reduce((done, name) => done.replaceAll('${' + name + '}', variables[name]).replaceAll('$' + name, variables[name]), text);
}

async function ask(path, parameters) {
  const answer = await fetch(`/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const body = await answer.json();
  if (body.status !== 'success') {
    throw new Error(`${JSON.stringify(parameters)}: ${body.error}`);
  }
  return body.data.result;
}

/** What Grafana's Prometheus data source makes of the answers to one target. */
async function framesOf(target, view) {
  const query = filledIn(target.expr, view.variables);
  if (target.range) {
    const { from, to, step } = view;
    const rows = await ask('query_range', { query, start: from, end: to, step });
    return rows.map((row) => series(target, row.metric, gaps(row.values, view)));
  }
  const rows = await ask('query', { query, time: view.to });
  if (target.format === 'table') {
    return [tableOf(target, rows)];
  }
  return rows.map((row) => series(target, row.metric, [row.value]));
}

/** A point for every step, null where there is none, so that lines are broken there. */
function gaps(values, { from, to, step }) {
  const known = new Map(values.map(([time, value]) => [Math.round((time - from) / step), value]));
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => [from + i * step, known.get(i) ?? null]);
}

function legend(target, labels) {
  return target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');
}

function numberOf(text) {
  return text === null ? null : Number(text);
}

function series(target, labels, points) {
  const name = legend(target, labels);
  return createDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels,
        values: points.map(([, value]) => numberOf(value)),
        config: { displayNameFromDS: name },
      },
    ],
  });
}

function tableOf(target, rows) {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.metric)))].sort();
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: rows.map((row) => row.value[0] * 1000) },
      ...names.map((name) => ({
        name,
        type: FieldType.string,
        values: rows.map((row) => row.metric[name] ?? ''),
      })),
      {
        name: `Value #${target.refId}`,
        type: FieldType.number,
        values: rows.map((row) => Number(row.value[1])),
      },
    ],
  });
}

/** The frames that a panel draws. */
export async function dataOf(panel, view) {
  const answers = await Promise.all(panel.targets.map((target) => framesOf(target, view)));
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], answers.flat()));
  const data = applyFieldOverrides({
    data: transformed,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
  cacheFieldDisplayNames(data);
  return data;
}
