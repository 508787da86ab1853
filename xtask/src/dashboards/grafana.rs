//! A dashboard as Grafana takes it from a file: schema, places and numbers of panels, the same for all of them. What they
//! show is `source`'s.

use serde_json::{Map, Value, json};

use super::source::{Dashboard, Kind, Panel, Variable};

/// Uid of the datasource that `deploy/grafana/provisioning` makes.
pub(crate) const DATASOURCE: &str = "DS_VICTORIAMETRICS";
/// Version of the dashboard schema: Grafana 11's, which later ones read as it is.
const SCHEMA: u32 = 39;
const COLUMNS: u16 = 24;

/// The whole file.
pub(crate) fn dashboard(source: &Dashboard) -> Value {
    let mut variables = vec![json!({
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
        "current": {"selected": true, "text": DATASOURCE, "value": DATASOURCE},
        "includeAll": false, "multi": false, "options": [], "refresh": 1, "regex": "", "skipUrlSync": false,
    })];
    variables.extend(source.variables.iter().map(variable));
    let mut places = Places::default();
    let panels = source.panels.iter().zip(1u32..).map(|(panel, id)| places.panel(panel, id));
    let panels: Vec<Value> = panels.collect();
    json!({
        "uid": source.uid,
        "title": source.title,
        "description": source.description,
        "tags": ["sockmeter"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{"title": "sockmeter", "type": "dashboards", "tags": ["sockmeter"], "asDropdown": true,
            "keepTime": true, "includeVars": false, "targetBlank": false, "icon": "external link", "tooltip": "",
            "url": ""}],
        "annotations": {"list": []},
        "templating": {"list": variables},
        "panels": panels,
    })
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn variable(variable: &Variable) -> Value {
    json!({
        "name": variable.name, "label": variable.title, "type": "query", "datasource": datasource(), "hide": 0,
        "definition": variable.query, "query": {"query": variable.query, "refId": "variable"},
        "regex": variable.regex, "refresh": 2, "sort": 1, "includeAll": true, "multi": true, "allValue": ".*",
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]}, "options": [], "skipUrlSync": false,
    })
}

/// Where the next panel goes: from left to right, then below the highest of the line.
#[derive(Debug, Default)]
struct Places {
    x: u16,
    y: u16,
    line: u16,
}

impl Places {
    fn next(&mut self, width: u16, height: u16) -> Value {
        if self.x.saturating_add(width) > COLUMNS {
            self.y = self.y.saturating_add(self.line);
            (self.x, self.line) = (0, 0);
        }
        let place = json!({"x": self.x, "y": self.y, "w": width, "h": height});
        self.x = self.x.saturating_add(width);
        self.line = self.line.max(height);
        place
    }

    fn panel(&mut self, source: &Panel, id: u32) -> Value {
        let (width, height) = source.kind.size();
        let place = self.next(source.width.unwrap_or(width), height);
        if source.kind == Kind::Row {
            return json!({"id": id, "type": "row", "title": source.title, "collapsed": false, "gridPos": place,
                "panels": []});
        }
        let targets = source.queries.iter().zip('A'..='Z').map(|(query, letter)| {
            let instant = source.kind.is_of_one_moment();
            json!({
                "datasource": datasource(), "refId": letter.to_string(), "editorMode": "code", "expr": query.expr,
                "legendFormat": query.legend, "instant": instant, "range": !instant,
                "format": if source.kind == Kind::Table { "table" } else { "time_series" },
            })
        });
        let targets: Vec<Value> = targets.collect();
        json!({
            "id": id,
            "type": kind(source.kind),
            "title": source.title,
            "description": source.description,
            "datasource": datasource(),
            "gridPos": place,
            "targets": targets,
            "transformations": transformations(source),
            "fieldConfig": {"defaults": defaults(source), "overrides": []},
            "options": options(source),
        })
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Row => "row",
        Kind::Stat => "stat",
        Kind::Gauge => "gauge",
        Kind::Bargauge => "bargauge",
        Kind::Timeseries => "timeseries",
        Kind::Table => "table",
    }
}

fn defaults(source: &Panel) -> Value {
    let steps = if source.steps.is_empty() { vec![(0.0, "green".to_owned())] } else { source.steps.clone() };
    let steps = steps.iter().enumerate().map(|(place, (value, colour))| {
        // The colour below all has no value.
        json!({"color": colour, "value": (place > 0).then_some(value)})
    });
    let by_value = !source.steps.is_empty() && source.kind != Kind::Timeseries;
    let mut defaults = json!({
        "unit": source.unit,
        "color": {"mode": if by_value { "thresholds" } else { "palette-classic" }},
        "thresholds": {"mode": "absolute", "steps": steps.collect::<Vec<_>>()},
        "mappings": mappings(source),
        "custom": custom(source),
    });
    if let Some(map) = defaults.as_object_mut() {
        let mut put = |key: &str, value: Option<Value>| value.and_then(|value| map.insert(key.to_owned(), value));
        put("noValue", source.no_value.clone().map(Value::from));
        put("min", source.min.map(Value::from));
        put("max", source.max.map(Value::from));
        put("decimals", source.decimals.map(Value::from));
    }
    defaults
}

fn mappings(source: &Panel) -> Vec<Value> {
    if source.texts.is_empty() {
        return Vec::new();
    }
    let options =
        source.texts.iter().zip(0u32..).map(|((value, text, colour), index)| {
            (value.clone(), json!({"text": text, "color": colour, "index": index}))
        });
    vec![json!({"type": "value", "options": options.collect::<Map<String, Value>>()})]
}

fn custom(source: &Panel) -> Value {
    match source.kind {
        Kind::Timeseries => json!({
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
            "fillOpacity": if source.stack { 30 } else { 10 }, "showPoints": "auto", "spanNulls": false,
            "axisPlacement": "auto", "stacking": {"mode": if source.stack { "normal" } else { "none" }, "group": "A"},
        }),
        Kind::Table => json!({"align": "auto", "cellOptions": {"type": "auto"}, "filterable": true}),
        Kind::Row | Kind::Stat | Kind::Gauge | Kind::Bargauge => json!({}),
    }
}

fn options(source: &Panel) -> Value {
    let reduce = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
    // A name that comes from a label is shown also where there is only one.
    let named = source.queries.iter().any(|query| query.legend.contains("{{"));
    match source.kind {
        Kind::Timeseries => json!({
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }),
        Kind::Stat => json!({"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "justifyMode": "auto",
            "orientation": "auto", "textMode": if named { "value_and_name" } else { "auto" }, "wideLayout": true}),
        Kind::Gauge => json!({"reduceOptions": reduce, "orientation": "auto", "showThresholdLabels": false,
            "showThresholdMarkers": true}),
        Kind::Bargauge => json!({"reduceOptions": reduce, "displayMode": "basic", "orientation": "horizontal",
            "showUnfilled": true, "valueMode": "color", "minVizWidth": 0, "minVizHeight": 10}),
        Kind::Table => json!({"showHeader": true, "cellHeight": "sm",
            "footer": {"show": false, "reducer": ["sum"], "countRows": false, "fields": ""}}),
        Kind::Row => json!({}),
    }
}

/// Columns of a table in their order, with their headings; everything else goes.
fn transformations(source: &Panel) -> Vec<Value> {
    if source.kind != Kind::Table {
        return Vec::new();
    }
    let columns = source.columns.iter();
    let names: Vec<&String> = columns.clone().map(|(label, _)| label).collect();
    let order: Map<String, Value> =
        columns.clone().zip(0u32..).map(|((label, _), at)| (label.clone(), at.into())).collect();
    let rename: Map<String, Value> = columns.map(|(label, text)| (label.clone(), text.clone().into())).collect();
    vec![
        json!({"id": "filterFieldsByName", "options": {"include": {"names": names}}}),
        json!({"id": "organize", "options": {"excludeByName": {}, "indexByName": order, "renameByName": rename}}),
    ]
}
