//! A dashboard as it is written and reviewed: `dashboards/source/*.toml`, with what a panel says and nothing of how Grafana
//! stores it. The JSON is made by `grafana`, the rules that both must keep are `check`'s.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One file of `dashboards/source`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dashboard {
    /// Its address in Grafana: `/d/UID`.
    pub(crate) uid: String,
    pub(crate) title: String,
    pub(crate) description: String,
    /// Beside `datasource`, which every dashboard has.
    #[serde(default, rename = "variable")]
    pub(crate) variables: Vec<Variable>,
    #[serde(rename = "panel")]
    pub(crate) panels: Vec<Panel>,
}

/// A choice at the top of the dashboard, all of it at first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) title: String,
    /// `label_values(METRIC, LABEL)`.
    pub(crate) query: String,
    /// Only values that match.
    #[serde(default)]
    pub(crate) regex: String,
}

/// A panel, or the heading of those that follow.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) kind: Kind,
    /// Of the 24 columns; what its kind usually has if absent.
    pub(crate) width: Option<u16>,
    #[serde(default)]
    pub(crate) description: String,
    /// As Grafana names it.
    #[serde(default)]
    pub(crate) unit: String,
    /// What stands there when there is nothing to show.
    pub(crate) no_value: Option<String>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) decimals: Option<u8>,
    #[serde(default)]
    pub(crate) stack: bool,
    /// From which value on which colour; the first is the colour below all.
    #[serde(default)]
    pub(crate) steps: Vec<(f64, String)>,
    /// Texts for values.
    #[serde(default)]
    pub(crate) texts: Vec<(String, String, String)>,
    /// Of a table: label and heading of each column, in order; `Value` is the sample.
    #[serde(default)]
    pub(crate) columns: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) queries: Vec<Query>,
}

/// One expression and how its series are called.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    pub(crate) expr: String,
    pub(crate) legend: String,
}

/// What a panel looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Row,
    Stat,
    Gauge,
    Bargauge,
    Timeseries,
    Table,
}

impl Kind {
    /// Width and height in Grafana's grid, unless the source says otherwise.
    pub(crate) fn size(self) -> (u16, u16) {
        match self {
            Self::Row => (24, 1),
            Self::Stat | Self::Gauge => (6, 4),
            Self::Bargauge => (6, 8),
            Self::Timeseries | Self::Table => (12, 8),
        }
    }

    /// Whether it shows the last value only.
    pub(crate) fn is_of_one_moment(self) -> bool {
        self != Self::Timeseries
    }
}

/// Every source with its file, by name.
pub(crate) fn read_all(root: &Path) -> Result<Vec<(PathBuf, Dashboard)>> {
    let folder = root.join("dashboards/source");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let read = |file: PathBuf| -> Result<(PathBuf, Dashboard)> {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let dashboard = toml::from_str(&text).with_context(|| format!("cannot understand {}", file.display()))?;
        Ok((file, dashboard))
    };
    files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "toml")).map(read).collect()
}
