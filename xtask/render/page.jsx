// A dashboard with its answers (window.answers) drawn by Grafana's own components. Loading, layout and choices of Grafana
// itself are not here: only what a panel looks like.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  createDataFrame, createTheme, applyFieldOverrides, FieldType, FieldColorModeId, Registry, getDisplayProcessor,
  getFieldDisplayValues, standardFieldConfigEditorRegistry, standardEditorsRegistry, ThemeContext, dateTime,
} from '@grafana/data';
import { TimeSeries, BigValue, BigValueColorMode, BigValueGraphMode, BarGauge, Gauge, Table, PanelChrome, VizLegend,
  GlobalStyles, PortalContainer } from '@grafana/ui';

const theme = createTheme({ colors: { mode: 'dark' } });
const { dashboard, results, from, to, line } = window.answers;
const WIDTH = 1400, GAP = 8, COLUMN = WIDTH / 24;
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-1m', to: 'now' } };

// The list of what a field may be told is Grafana's own and not in the packages.
const told = ['unit', 'decimals', 'min', 'max', 'displayName', 'color', 'thresholds', 'mappings', 'noValue', 'links'];
const custom = ['drawStyle', 'lineInterpolation', 'lineWidth', 'fillOpacity', 'showPoints', 'spanNulls', 'stacking',
  'axisPlacement', 'align', 'cellOptions', 'filterable'];
const item = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, isCustom, name: path, process: (v) => v, shouldApply: () => true,
});
const registry = new Registry(() => [...told.map((p) => item(p, false)), ...custom.map((p) => item(p, true))]);
try { standardFieldConfigEditorRegistry.setInit(() => registry.list()); } catch (e) { /* set already */ }

const called = (legend, labels) => legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '').trim();

function frames(panel) {
  const list = [];
  for (const { legend, result, refId } of results[panel.id] ?? []) {
    for (const series of result ?? []) {
      const values = series.values ?? [series.value];
      const name = called(legend, series.metric);
      const config = { ...panel.fieldConfig.defaults, displayName: name };
      // Every moment of the range has a place, so that gaps are seen as such.
      const at = new Map(values.map(([t, v]) => [t, parseFloat(v)]));
      const times = series.values ? Array.from({ length: to - from + 1 }, (_, i) => from + i) : [to];
      list.push(createDataFrame({ refId, name, fields: [
        { name: 'Time', type: FieldType.time, values: times.map((t) => t * 1000), config: {} },
        { name, type: FieldType.number, labels: series.metric, config,
          values: series.values ? times.map((t) => at.get(t) ?? null) : [parseFloat(values[0][1])] },
      ] }));
    }
  }
  return overridden(panel, list);
}

function overridden(panel, data) {
  return applyFieldOverrides({ data, fieldConfig: panel.fieldConfig, replaceVariables: (v) => v, theme, timeZone: 'utc',
    fieldConfigRegistry: registry });
}

function table(panel) {
  const { indexByName, renameByName } = panel.transformations[1].options;
  const rows = results[panel.id][0].result ?? [];
  const names = Object.keys(indexByName).sort((a, b) => indexByName[a] - indexByName[b]);
  const fields = names.map((name) => name === 'Value'
    ? { name: renameByName[name], type: FieldType.number, values: rows.map((r) => parseFloat(r.value[1])), config: { ...panel.fieldConfig.defaults } }
    : { name: renameByName[name], type: FieldType.string, values: rows.map((r) => r.metric[name] ?? ''), config: {} });
  const frame = createDataFrame({ fields });
  const units = panel.fieldConfig;
  const done = overridden({ ...panel, fieldConfig: { defaults: { custom: units.defaults.custom }, overrides: [] } }, [frame])[0];
  const value = done.fields[done.fields.length - 1];
  value.config = { ...value.config, unit: units.defaults.unit, thresholds: units.defaults.thresholds };
  value.display = getDisplayProcessor({ field: value, theme });
  return done;
}

const Empty = ({ panel, width, height }) => (
  <div style={{ width, height, display: 'flex', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary }}>
    {panel.fieldConfig.defaults.noValue ?? 'No data'}
  </div>
);

function values(panel, data) {
  return getFieldDisplayValues({ data, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions,
    replaceVariables: (v) => v, theme, timeZone: 'utc' });
}

// So that all bars of a panel begin and end at the same place.
const longest = (shown) => ({
  title: shown.reduce((a, { display }) => ((display.title ?? '').length > a.length ? display.title : a), ''),
  text: shown.reduce((a, { display }) => (display.text.length > a.length ? display.text : a), ''),
});

function Inside({ panel, width, height }) {
  if (panel.type === 'table') {
    return table(panel).length ? <Table data={table(panel)} width={width} height={height} /> : <Empty {...{ panel, width, height }} />;
  }
  const data = frames(panel);
  if (!data.length) { return <Empty {...{ panel, width, height }} />; }
  if (panel.type === 'timeseries') {
    return <TimeSeries frames={data} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height}
      legend={panel.options.legend} options={{}} />;
  }
  const shown = values(panel, data);
  const each = panel.type === 'bargauge' ? [width, height / shown.length - 2] : [width / shown.length, height];
  return (
    <div style={{ display: 'flex', flexDirection: panel.type === 'bargauge' ? 'column' : 'row', gap: 2 }}>
      {shown.map((value, i) => panel.type === 'bargauge'
        ? <BarGauge key={i} theme={theme} value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
            width={each[0]} height={Math.min(each[1], 46)} orientation="horizontal" displayMode="basic" text={{ titleSize: 14, valueSize: 16 }} showUnfilled alignmentFactors={longest(shown)} />
        : panel.type === 'gauge'
          ? <Gauge key={i} theme={theme} value={value.display} field={value.field} width={each[0]} height={each[1]} />
          : <BigValue key={i} theme={theme} value={value.display} width={each[0]} height={each[1]}
              colorMode={BigValueColorMode.Value} graphMode={BigValueGraphMode.None} textMode={shown.length > 1 ? 'value_and_name' : panel.options.textMode} />)}
    </div>
  );
}

const Page = () => (
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PortalContainer />
    <h3 style={{ margin: 12, color: theme.colors.text.primary }}>{dashboard.title}</h3>
    <div style={{ position: 'relative' }}>
      {dashboard.panels.map((panel) => {
        const { x, y, w, h } = panel.gridPos;
        const width = w * COLUMN - GAP, height = h * line - GAP;
        const place = { position: 'absolute', left: x * COLUMN + GAP / 2, top: y * line, width, height };
        return (
          <div key={panel.id} style={place}>
            {panel.type === 'row'
              ? <h5 style={{ color: theme.colors.text.primary, margin: 4 }}>{panel.title}</h5>
              : <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding="md">
                  {(innerWidth, innerHeight) => <Inside panel={panel} width={innerWidth} height={innerHeight} />}
                </PanelChrome>}
          </div>
        );
      })}
    </div>
  </ThemeContext.Provider>
);

document.body.style.background = theme.colors.background.canvas;
document.body.style.margin = 0;
createRoot(document.getElementById('root')).render(<Page />);
